// From bytes to a screen: the control sequences of ECMA-48 and of xterm that programs with TERM=xterm-256color use.
//
// What a program sends is not trusted: every parameter is bounded, unknown sequences are skipped, nothing of it is ever
// markup, and only fixed answers are sent back. Titles, clipboards and links (OSC) are ignored.

import { BOLD, DIM, HIDDEN, INVERSE, ITALIC, PLAIN, STRIKE, UNDERLINE } from './screen.js';

const PARAMETERS_MAX = 32;
const NUMBER_MAX = 9999;
const STRING_MAX = 65536;

// The line drawing characters of the VT100, from ` to ~.
const GRAPHICS = '◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·';

const FLAGS = { 1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 7: INVERSE, 8: HIDDEN, 9: STRIKE };

export class Parser {
  constructor(screen, answer) {
    this.screen = screen;
    this.answer = answer;
    this.decoder = new TextDecoder('utf-8');
    this.state = this.ground;
    this.length = 0;
  }

  feed(bytes) {
    for (const character of this.decoder.decode(bytes, { stream: true })) this.state(character);
  }

  ground(character) {
    const code = character.codePointAt(0);
    if (code >= 0x20 && code !== 0x7f) {
      const drawn = this.screen.graphics && code >= 0x60 && code <= 0x7e;
      this.screen.put(drawn ? GRAPHICS[code - 0x60] : character);
    } else {
      this.control(code);
    }
  }

  control(code) {
    const { screen } = this;
    if (code === 0x1b) this.state = this.escape;
    else if (code === 0x0d) screen.moveBy(-screen.cols, 0);
    else if (code >= 0x0a && code <= 0x0c) {
      screen.wrapPending = false;
      screen.lineFeed();
    } else if (code === 0x08) screen.moveBy(-1, 0);
    else if (code === 0x09) screen.tab(1);
    else if (code === 0x0e || code === 0x0f) screen.graphics = false;
  }

  escape(character) {
    const { screen } = this;
    this.state = this.ground;
    if (character === '[') {
      this.parameters = [];
      this.number = null;
      this.prefix = this.middle = '';
      this.state = this.sequence;
    } else if (']PX^_'.includes(character)) {
      this.length = 0;
      this.state = this.string;
    } else if ('()*+'.includes(character)) {
      this.slot = character;
      this.state = this.charset;
    } else if (character === '#' || character === '%' || character === ' ') this.state = this.skip;
    else if (character === '7') screen.save();
    else if (character === '8') screen.restore();
    else if (character === 'D') screen.lineFeed();
    else if (character === 'M') screen.reverseLineFeed();
    else if (character === 'E') {
      screen.moveBy(-screen.cols, 0);
      screen.lineFeed();
    } else if (character === 'c') screen.reset();
  }

  skip() {
    this.state = this.ground;
  }

  charset(character) {
    if (this.slot === '(') this.screen.graphics = character === '0';
    this.state = this.ground;
  }

  // Until BEL or ESC \; its content is of no interest.
  string(character) {
    this.length += 1;
    if (character === '\x07' || this.length > STRING_MAX) this.state = this.ground;
    else if (character === '\x1b') this.state = this.skip;
  }

  sequence(character) {
    const code = character.codePointAt(0);
    if (character >= '0' && character <= '9') {
      this.number = Math.min((this.number ?? 0) * 10 + code - 0x30, NUMBER_MAX);
    } else if (character === ';' || character === ':') this.next();
    else if (character >= '<' && character <= '?') this.prefix = character;
    else if (code >= 0x20 && code <= 0x2f) this.middle = character;
    else if (code >= 0x40 && code <= 0x7e) {
      this.next();
      this.state = this.ground;
      if (this.middle === '') this.obey(character);
      else if (this.middle === '!' && character === 'p') this.screen.reset();
    } else if (code === 0x1b || code === 0x18 || code === 0x1a) {
      this.state = code === 0x1b ? this.escape : this.ground;
    } else if (code < 0x20) this.control(code);
  }

  next() {
    if (this.parameters.length < PARAMETERS_MAX) this.parameters.push(this.number);
    this.number = null;
  }

  obey(final) {
    const { screen } = this;
    if (this.prefix === '?') {
      if (final === 'h' || final === 'l') for (const mode of this.parameters) this.setMode(mode, final === 'h');
      return;
    }
    if (this.prefix !== '') {
      // What this terminal is, asked the second way: a VT220 without further claims.
      if (this.prefix === '>' && final === 'c') this.answer('\x1b[>1;10;0c');
      return;
    }
    const first = this.parameters[0] ?? 0;
    const count = Math.max(first, 1);
    const second = this.parameters[1] ?? 0;
    const actions = {
      '@': () => screen.insertCells(count),
      A: () => screen.moveBy(0, -count),
      B: () => screen.moveBy(0, count),
      C: () => screen.moveBy(count, 0),
      D: () => screen.moveBy(-count, 0),
      E: () => screen.moveBy(-screen.cols, count),
      F: () => screen.moveBy(-screen.cols, -count),
      G: () => { screen.x = Math.min(count, screen.cols) - 1; screen.wrapPending = false; },
      H: () => screen.moveTo(Math.max(second, 1) - 1, count - 1),
      I: () => screen.tab(Math.min(count, screen.cols)),
      J: () => screen.eraseDisplay(first),
      K: () => screen.eraseLine(first),
      L: () => screen.insertLines(count),
      M: () => screen.deleteLines(count),
      P: () => screen.deleteCells(count),
      S: () => screen.scrollUp(count),
      T: () => screen.scrollDown(count),
      X: () => screen.eraseCells(screen.x, screen.x + count),
      Z: () => screen.backTab(Math.min(count, screen.cols)),
      c: () => this.answer('\x1b[?62;22c'),
      d: () => screen.moveTo(screen.x, count - 1),
      h: () => { if (first === 4) screen.modes.insert = true; },
      l: () => { if (first === 4) screen.modes.insert = false; },
      m: () => this.setAttribute(),
      n: () => this.report(first),
      r: () => screen.setRegion(count - 1, (second || screen.rows) - 1),
      s: () => screen.save(),
      u: () => screen.restore(),
    };
    actions['`'] = actions.G;
    actions.a = actions.C;
    actions.e = actions.B;
    actions.f = actions.H;
    actions[final]?.();
  }

  report(what) {
    const { screen } = this;
    if (what === 5) this.answer('\x1b[0n');
    if (what === 6) this.answer(`\x1b[${screen.y + 1};${screen.x + 1}R`);
  }

  setMode(mode, on) {
    const { screen } = this;
    const names = { 1: 'keys', 7: 'wrap', 25: 'cursor', 2004: 'paste' };
    if (mode in names) screen.modes[names[mode]] = on;
    else if (mode === 6) {
      screen.modes.origin = on;
      screen.moveTo(0, 0);
    } else if (mode === 47 || mode === 1047) screen.useAlternate(on);
    else if (mode === 1048) on ? screen.save() : screen.restore();
    else if (mode === 1049) {
      if (on) screen.save();
      screen.useAlternate(on);
      if (!on) screen.restore();
    }
  }

  setAttribute() {
    const { screen, parameters } = this;
    let { fore, back, flags } = screen.attribute;
    for (let i = 0; i < parameters.length; i += 1) {
      const code = parameters[i] ?? 0;
      if (code === 0) ({ fore, back, flags } = PLAIN);
      else if (code in FLAGS) flags |= FLAGS[code];
      else if (code === 22) flags &= ~(BOLD | DIM);
      else if (code >= 23 && code <= 29) flags &= ~(FLAGS[code - 20] ?? 0);
      else if (code >= 30 && code <= 37) fore = code - 30;
      else if (code >= 40 && code <= 47) back = code - 40;
      else if (code >= 90 && code <= 97) fore = code - 82;
      else if (code >= 100 && code <= 107) back = code - 92;
      else if (code === 39) fore = null;
      else if (code === 49) back = null;
      else if (code === 38 || code === 48) {
        let colour = null;
        if (parameters[i + 1] === 5) {
          colour = Math.min(parameters[i + 2] ?? 0, 255);
          i += 2;
        } else if (parameters[i + 1] === 2) {
          const [red, green, blue] = parameters.slice(i + 2, i + 5).map((part) => Math.min(part ?? 0, 255));
          colour = `rgb(${red ?? 0},${green ?? 0},${blue ?? 0})`;
          i += 4;
        }
        if (code === 38) fore = colour;
        else back = colour;
      }
    }
    screen.attribute = Object.freeze({ fore, back, flags });
  }
}
