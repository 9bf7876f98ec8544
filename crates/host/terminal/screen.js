// What a terminal shows: cells, a cursor, a scroll region, an alternate screen. No input, no drawing.

const SCROLLBACK_MAX = 2000;

export const PLAIN = Object.freeze({ fore: null, back: null, flags: 0 });
export const BOLD = 1, DIM = 2, ITALIC = 4, UNDERLINE = 8, INVERSE = 16, HIDDEN = 32, STRIKE = 64;

// Ranges of characters that take two columns: East Asian wide ones and pictures.
const WIDE = [
  [0x1100, 0x115f], [0x2e80, 0x303e], [0x3041, 0x33ff], [0x3400, 0x4dbf], [0x4e00, 0x9fff], [0xa000, 0xa4cf],
  [0xac00, 0xd7a3], [0xf900, 0xfaff], [0xfe30, 0xfe6f], [0xff00, 0xff60], [0xffe0, 0xffe6], [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff], [0x1f900, 0x1f9ff], [0x20000, 0x3fffd],
];

function width(character) {
  const code = character.codePointAt(0);
  if (code < 0x300) return 1;
  if (/\p{Mn}|\p{Me}|\u200b|\u200d|\ufe0f/u.test(character)) return 0;
  return WIDE.some(([from, to]) => code >= from && code <= to) ? 2 : 1;
}

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export class Screen {
  constructor(cols, rows) {
    this.cols = cols;
    this.rows = rows;
    this.reset();
  }

  reset() {
    this.attribute = PLAIN;
    this.lines = this.blankLines(this.rows);
    this.scrollback = [];
    this.scrolledOff = 0;
    this.x = this.y = 0;
    this.wrapPending = false;
    this.top = 0;
    this.bottom = this.rows - 1;
    this.saved = { x: 0, y: 0, attribute: PLAIN };
    this.other = null;
    this.modes = { wrap: true, origin: false, insert: false, cursor: true, keys: false, paste: false };
    this.graphics = false;
  }

  blankCell() {
    return { text: ' ', attribute: this.attribute.back === null ? PLAIN : { ...PLAIN, back: this.attribute.back } };
  }

  blankLine() {
    return Array.from({ length: this.cols }, () => this.blankCell());
  }

  blankLines(count) {
    return Array.from({ length: count }, () => this.blankLine());
  }

  put(character) {
    const columns = width(character);
    if (columns === 0) {
      const cell = this.lines[this.y][Math.max(0, this.x - (this.wrapPending ? 0 : 1))];
      if (cell.text.length < 16) cell.text += character;
      return;
    }
    if (this.wrapPending || this.x + columns > this.cols) {
      if (this.modes.wrap) {
        this.x = 0;
        this.lineFeed();
      } else {
        this.x = this.cols - columns;
      }
      this.wrapPending = false;
    }
    if (this.modes.insert) this.insertCells(columns);
    const line = this.lines[this.y];
    line[this.x] = { text: character, attribute: this.attribute };
    if (columns === 2 && this.x + 1 < this.cols) line[this.x + 1] = { text: '', attribute: this.attribute };
    this.x += columns;
    if (this.x >= this.cols) {
      this.x = this.cols - 1;
      this.wrapPending = true;
    }
  }

  lineFeed() {
    if (this.y === this.bottom) this.scrollUp(1);
    else if (this.y < this.rows - 1) this.y += 1;
  }

  reverseLineFeed() {
    if (this.y === this.top) this.scrollDown(1);
    else if (this.y > 0) this.y -= 1;
  }

  scrollUp(count) {
    for (let i = 0; i < Math.min(count, this.rows); i += 1) {
      const [gone] = this.lines.splice(this.top, 1);
      if (this.top === 0 && !this.other) {
        this.remember(gone);
      }
      this.lines.splice(this.bottom, 0, this.blankLine());
    }
  }

  remember(line) {
    this.scrollback.push(line);
    if (this.scrollback.length > SCROLLBACK_MAX) {
      this.scrollback.shift();
      this.scrolledOff += 1;
    }
  }

  scrollDown(count) {
    for (let i = 0; i < Math.min(count, this.rows); i += 1) {
      this.lines.splice(this.bottom, 1);
      this.lines.splice(this.top, 0, this.blankLine());
    }
  }

  moveTo(x, y) {
    const top = this.modes.origin ? this.top : 0;
    const bottom = this.modes.origin ? this.bottom : this.rows - 1;
    this.x = clamp(x, 0, this.cols - 1);
    this.y = clamp(y + top, top, bottom);
    this.wrapPending = false;
  }

  moveBy(x, y) {
    // Within the scroll region when the cursor is in it.
    const top = this.y >= this.top ? this.top : 0;
    const bottom = this.y <= this.bottom ? this.bottom : this.rows - 1;
    this.x = clamp(this.x + x, 0, this.cols - 1);
    this.y = clamp(this.y + y, top, bottom);
    this.wrapPending = false;
  }

  tab(count) {
    for (let i = 0; i < count; i += 1) this.x = Math.min((Math.floor(this.x / 8) + 1) * 8, this.cols - 1);
  }

  backTab(count) {
    for (let i = 0; i < count; i += 1) this.x = Math.max((Math.ceil(this.x / 8) - 1) * 8, 0);
  }

  setRegion(top, bottom) {
    if (top >= bottom || bottom >= this.rows) return;
    this.top = top;
    this.bottom = bottom;
    this.moveTo(0, 0);
  }

  eraseDisplay(how) {
    if (how === 3) {
      this.scrolledOff += this.scrollback.length;
      this.scrollback = [];
      return;
    }
    if (how === 2) this.lines = this.blankLines(this.rows);
    for (let y = 0; y < this.rows; y += 1) {
      if ((how === 0 && y > this.y) || (how === 1 && y < this.y)) this.lines[y] = this.blankLine();
    }
    if (how < 2) this.eraseLine(how);
  }

  eraseLine(how) {
    const from = how === 0 ? this.x : 0;
    const to = how === 1 ? this.x + 1 : this.cols;
    this.eraseCells(from, to);
  }

  eraseCells(from, to) {
    for (let x = from; x < Math.min(to, this.cols); x += 1) this.lines[this.y][x] = this.blankCell();
    this.wrapPending = false;
  }

  insertCells(count) {
    const blanks = Array.from({ length: Math.min(count, this.cols) }, () => this.blankCell());
    this.lines[this.y].splice(this.x, 0, ...blanks);
    this.lines[this.y].length = this.cols;
  }

  deleteCells(count) {
    const gone = this.lines[this.y].splice(this.x, Math.min(count, this.cols - this.x));
    this.lines[this.y].push(...gone.map(() => this.blankCell()));
    this.wrapPending = false;
  }

  insertLines(count) {
    this.withRegionFromCursor(() => this.scrollDown(count));
  }

  deleteLines(count) {
    this.withRegionFromCursor(() => this.scrollUp(count), true);
  }

  withRegionFromCursor(work) {
    if (this.y < this.top || this.y > this.bottom) return;
    const { top, scrollback } = this;
    this.top = this.y;
    // What is deleted is not history.
    this.scrollback = [];
    const { scrolledOff } = this;
    work();
    this.scrolledOff = scrolledOff;
    this.scrollback = scrollback;
    this.top = top;
    this.x = 0;
  }

  save() {
    this.saved = { x: this.x, y: this.y, attribute: this.attribute };
  }

  restore() {
    this.x = clamp(this.saved.x, 0, this.cols - 1);
    this.y = clamp(this.saved.y, 0, this.rows - 1);
    this.attribute = this.saved.attribute;
    this.wrapPending = false;
  }

  useAlternate(on) {
    if (on === Boolean(this.other)) return;
    if (on) {
      this.other = this.lines;
      this.lines = this.blankLines(this.rows);
    } else {
      this.lines = this.other;
      this.other = null;
    }
    this.top = 0;
    this.bottom = this.rows - 1;
  }

  resize(cols, rows) {
    const fit = (lines, history) => {
      for (const line of lines) {
        while (line.length < cols) line.push({ text: ' ', attribute: PLAIN });
        line.length = cols;
      }
      while (lines.length > rows) {
        // Empty lines below the cursor go first.
        if (history && this.y < lines.length - 1) lines.pop();
        else {
          const gone = lines.shift();
          if (history) {
            this.remember(gone);
            this.y -= 1;
          }
        }
      }
      this.cols = cols;
      while (lines.length < rows) lines.push(Array.from({ length: cols }, () => ({ text: ' ', attribute: PLAIN })));
    };
    fit(this.lines, !this.other);
    if (this.other) fit(this.other, false);
    this.rows = rows;
    this.top = 0;
    this.bottom = rows - 1;
    this.x = clamp(this.x, 0, cols - 1);
    this.y = clamp(this.y, 0, rows - 1);
    this.wrapPending = false;
  }
}
