// What xterm sends for a key.

const CURSOR = { ArrowUp: 'A', ArrowDown: 'B', ArrowRight: 'C', ArrowLeft: 'D', Home: 'H', End: 'F' };
const TILDE = {
  Insert: 2, Delete: 3, PageUp: 5, PageDown: 6, F5: 15, F6: 17, F7: 18, F8: 19, F9: 20, F10: 21, F11: 23, F12: 24,
};
const FUNCTION = { F1: 'P', F2: 'Q', F3: 'R', F4: 'S' };
const PLAIN = { Enter: '\r', Backspace: '\x7f', Tab: '\t', Escape: '\x1b' };

// Text for the program, or null for what is the browser's.
export function bytesOf(event, modes) {
  const { key } = event;
  if (event.metaKey || event.isComposing) return null;
  // The browser's own way to copy and paste.
  if (event.ctrlKey && event.shiftKey && 'cCvV'.includes(key)) return null;
  const modifier = 1 + (event.shiftKey ? 1 : 0) + (event.altKey ? 2 : 0) + (event.ctrlKey ? 4 : 0);
  if (key in CURSOR) {
    if (modifier > 1) return `\x1b[1;${modifier}${CURSOR[key]}`;
    return (modes.keys ? '\x1bO' : '\x1b[') + CURSOR[key];
  }
  if (key in TILDE) return modifier > 1 ? `\x1b[${TILDE[key]};${modifier}~` : `\x1b[${TILDE[key]}~`;
  if (key in FUNCTION) return modifier > 1 ? `\x1b[1;${modifier}${FUNCTION[key]}` : `\x1bO${FUNCTION[key]}`;
  if (key === 'Tab' && event.shiftKey) return '\x1b[Z';
  let text = PLAIN[key] ?? ([...key].length === 1 ? key : null);
  if (text === null) return null;
  if (event.ctrlKey) {
    if (key === ' ') text = '\0';
    else if (key === 'Backspace') text = '\b';
    else if (/^[a-z@[\\\]^_]$/i.test(key)) text = String.fromCharCode(key.toUpperCase().charCodeAt(0) & 0x1f);
    else if (text.length === 1 && text >= ' ') return null;
  }
  return event.altKey ? `\x1b${text}` : text;
}

// What is pasted can never end the paste by itself.
export function pasted(text, modes) {
  const typed = text.replace(/\r?\n/g, '\r');
  return modes.paste ? `\x1b[200~${typed.replaceAll('\x1b', '')}\x1b[201~` : typed;
}
