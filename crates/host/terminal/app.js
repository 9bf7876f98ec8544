// The page: which terminal, the connection to it, and drawing it.

import { bytesOf, pasted } from './keys.js';
import { Parser } from './parser.js';
import { BOLD, DIM, HIDDEN, INVERSE, ITALIC, PLAIN, STRIKE, Screen, UNDERLINE } from './screen.js';

const PROTOCOL = 'podflare.terminal.v1';
const KEY_PROTOCOL = 'podflare.key.';
const RECONNECT_TRIES = 20;
const RECONNECT_MS = 500;

const BASE = [
  '#2e3440', '#e0616b', '#a3be8c', '#ebcb8b', '#81a1c1', '#b48ead', '#88c0d0', '#d8dee9',
  '#6b7489', '#ff8088', '#c3e0a8', '#ffe0a0', '#a0c4ec', '#d4aee0', '#a8e4f4', '#ffffff',
];
const CLASSES = [[BOLD, 'bold'], [DIM, 'dim'], [ITALIC, 'italic'], [UNDERLINE, 'underline'], [STRIKE, 'strike'], [HIDDEN, 'hidden']];

const element = (id) => document.getElementById(id);
const view = element('screen');
const encoder = new TextEncoder();

let screen = new Screen(80, 24);
let parser;
let socket = null;
let rows = [];
let drawn = false;

// ---- Drawing: one element a row, redrawn whole when something has changed.

function colour(value, fallback) {
  if (value === null) return fallback;
  if (typeof value === 'string') return value;
  if (value < 16) return BASE[value];
  if (value >= 232) return `rgb(${Array(3).fill((value - 232) * 10 + 8)})`;
  const level = (part) => (part === 0 ? 0 : part * 40 + 55);
  const cube = value - 16;
  return `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`;
}

function span(text, attribute, isCursor) {
  const node = document.createElement('span');
  node.textContent = text;
  let fore = colour(attribute.fore, null);
  let back = colour(attribute.back, null);
  if (attribute.flags & INVERSE) [fore, back] = [back ?? 'var(--back)', fore ?? 'var(--fore)'];
  if (fore) node.style.color = fore;
  if (back) node.style.background = back;
  for (const [flag, name] of CLASSES) if (attribute.flags & flag) node.classList.add(name);
  if (isCursor) node.classList.add('cursor');
  return node;
}

function drawLine(line, cursor) {
  const row = document.createElement('div');
  row.className = 'row';
  for (let x = 0; x < line.length;) {
    const from = x;
    let text = line[x].text;
    if (x !== cursor) {
      while (x + 1 < line.length && x + 1 !== cursor && line[x + 1].attribute === line[from].attribute) {
        x += 1;
        text += line[x].text;
      }
    }
    x += 1;
    const { attribute } = line[from];
    const isPlain = attribute === PLAIN && from !== cursor;
    row.append(isPlain ? text : span(text, attribute, from === cursor));
  }
  return row;
}

let history = [];
let historyStart = 0;

function draw() {
  drawn = false;
  const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
  // History does not change, so only what is new of it is drawn.
  while (history.length > 0 && historyStart < screen.scrolledOff) {
    history.shift().remove();
    historyStart += 1;
  }
  historyStart = Math.max(historyStart, screen.scrolledOff);
  while (history.length < screen.scrollback.length) {
    const row = drawLine(screen.scrollback[history.length], -1);
    if (rows[0]) view.insertBefore(row, rows[0]);
    else view.append(row);
    history.push(row);
  }
  const next = screen.lines.map((line, y) => drawLine(line, y === screen.y && screen.modes.cursor ? screen.x : -1));
  rows.forEach((row) => row.remove());
  view.append(...next);
  rows = next;
  if (atEnd) view.scrollTop = view.scrollHeight;
}

function redraw() {
  if (!drawn) {
    drawn = true;
    requestAnimationFrame(draw);
  }
}

function measured() {
  const probe = document.createElement('span');
  probe.className = 'measure';
  probe.textContent = 'x'.repeat(100);
  view.append(probe);
  const { width, height } = probe.getBoundingClientRect();
  probe.remove();
  const style = getComputedStyle(view);
  const inner = (size, ...sides) => sides.reduce((left, side) => left - Number.parseFloat(style[side]), size);
  const line = Number.parseFloat(style.lineHeight) || height;
  return {
    cols: Math.min(Math.max(Math.floor((inner(view.clientWidth, 'paddingLeft', 'paddingRight') * 100) / width), 2), 500),
    rows: Math.min(Math.max(Math.floor(inner(view.clientHeight, 'paddingTop', 'paddingBottom') / line), 2), 200),
  };
}

function clear() {
  const { cols, rows: count } = measured();
  screen = new Screen(cols, count);
  parser = new Parser(screen, send);
  view.replaceChildren();
  rows = [];
  history = [];
  historyStart = 0;
  redraw();
}

// ---- The connection.

function say(text, isBad = false) {
  element('status').textContent = text;
  element('status').classList.toggle('bad', isBad);
}

function send(text) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(encoder.encode(text));
}

function sendSize() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: 'resize', cols: screen.cols, rows: screen.rows }));
}

async function call(path, options = {}) {
  const key = element('key').value;
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  if (!answer.ok) {
    const { error, hint } = await answer.json().catch(() => ({}));
    throw new Error([error ?? `HTTP status ${answer.status}`, hint].filter(Boolean).join('; '));
  }
  return answer;
}

function sandbox() {
  const id = element('sandbox').value.trim();
  if (!/^sbx_[0-9a-f]{32}$/.test(id)) throw new Error('a sandbox is named sbx_ and 32 hexadecimal digits');
  return `/v1/sandboxes/${id}`;
}

// Starts a shell; its stream is dropped once its name is known, which only detaches.
async function create(path) {
  const giveUp = new AbortController();
  const answer = await call(`${path}/pty`, {
    method: 'POST',
    signal: giveUp.signal,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ argv: ['/bin/bash', '-l'], cols: screen.cols, rows: screen.rows }),
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (!text.trimStart().includes('\n')) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
  }
  giveUp.abort();
  const event = JSON.parse(text.trimStart().split('\n')[0]);
  if (event.type !== 'pty_ready') throw new Error(event.message ?? 'the terminal did not start');
  return event.session_id;
}

function attach(path, terminal, since, tries) {
  const url = new URL(`${path}/pty/${terminal}/attach?since_seq=${since}`, location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const key = element('key').value;
  const encoded = btoa(String.fromCharCode(...encoder.encode(key))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
  const mine = new WebSocket(url, key ? [PROTOCOL, KEY_PROTOCOL + encoded] : [PROTOCOL]);
  mine.binaryType = 'arraybuffer';
  socket = mine;
  let next = since;
  let ended = false;
  mine.onopen = () => {
    tries = RECONNECT_TRIES;
    say(`attached to ${terminal}`);
    sendSize();
    view.focus();
  };
  mine.onmessage = ({ data }) => {
    if (socket !== mine) return;
    if (typeof data !== 'string') {
      next += data.byteLength;
      parser.feed(new Uint8Array(data));
      redraw();
      return;
    }
    const event = JSON.parse(data);
    if (event.type === 'pty_dropped') next += event.bytes;
    if (event.type === 'pty_exit') say(`exited with code ${event.data}`, event.data !== 0);
    if (event.type === 'pty_error') say(event.message, true);
    ended ||= event.type !== 'pty_dropped';
  };
  mine.onclose = () => {
    if (socket !== mine || ended) return;
    if (tries === 0) {
      say('the connection is lost', true);
      return;
    }
    say('reconnecting…', true);
    setTimeout(() => socket === mine && attach(path, terminal, next, tries - 1), RECONNECT_MS);
  };
}

async function open(terminal) {
  socket?.close();
  socket = null;
  clear();
  say('connecting…');
  try {
    const path = sandbox();
    const chosen = terminal || (await create(path));
    // The fragment stays in the browser: a page loaded anew finds its terminal again.
    rememberInAddress(element('sandbox').value.trim(), chosen);
    attach(path, chosen, 0, 0);
    await list();
    element('terminal').value = chosen;
  } catch (error) {
    say(error.message, true);
  }
}

function rememberInAddress(id, terminal) {
  window.history.replaceState(null, '', `#${id}/${terminal}`);
}

async function list() {
  const select = element('terminal');
  const { value } = select;
  const terminals = await (await call(`${sandbox()}/pty`)).json();
  select.replaceChildren(new Option('new shell', ''));
  for (const { pty_id: id, cmd_label: label, exit_code: code } of terminals) {
    select.append(new Option(`${label.slice(0, 40)} (${id.slice(0, 12)}${code === null ? '' : `, exited ${code}`})`, id));
  }
  select.value = value;
}

async function listSandboxes() {
  const { sandboxes } = await (await call('/v1/sandboxes')).json();
  element('sandboxes').replaceChildren(...sandboxes.map(({ id, template }) => new Option(template, id)));
  if (!element('sandbox').value && sandboxes.length > 0) element('sandbox').value = sandboxes.at(-1).id;
}

// ---- What its user does.

element('connect').addEventListener('submit', (event) => {
  event.preventDefault();
  open(element('terminal').value);
});
element('sandbox').addEventListener('change', () => list().catch((error) => say(error.message, true)));
element('key').addEventListener('change', () => listSandboxes().catch((error) => say(error.message, true)));
view.addEventListener('keydown', (event) => {
  const text = bytesOf(event, screen.modes);
  if (text === null) return;
  event.preventDefault();
  send(text);
  view.scrollTop = view.scrollHeight;
});
view.addEventListener('paste', (event) => {
  event.preventDefault();
  send(pasted(event.clipboardData.getData('text'), screen.modes));
});
new ResizeObserver(() => {
  const { cols, rows: count } = measured();
  if (cols === screen.cols && count === screen.rows) return;
  screen.resize(cols, count);
  sendSize();
  redraw();
}).observe(view);

const [, named, terminal] = /^#(sbx_[0-9a-f]{32})(?:\/(pty_[0-9a-f]{32}))?$/.exec(location.hash) ?? [];
clear();
if (named) element('sandbox').value = named;
listSandboxes().catch(() => say('give the key, if this host wants one'));
if (terminal) open(terminal);
