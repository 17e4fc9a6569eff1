// Plays speech while it is still being made: 16-bit samples from `/tts?stream=true&format=pcm`, scheduled end to end.
import { call } from "./api.js";

let context = null;
let current = null;

export function stop() {
  current?.abort.abort();
  for (const source of current?.sources ?? []) source.stop();
  current = null;
}

export async function speak(order, { onStart = () => {}, onSamples = () => {} } = {}) {
  stop();
  context ??= new AudioContext();
  await context.resume();
  const mine = (current = { abort: new AbortController(), sources: new Set(), next: 0 });
  const asked = performance.now();
  const answer = await call("/tts", { method: "POST", json: { ...order, format: "pcm", stream: true }, signal: mine.abort.signal });
  const rate = Number(answer.headers.get("X-Sample-Rate") || 24000);
  const parts = [];
  let odd = new Uint8Array(0);
  let first = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { value, done } = await reader.read();
    if (done || current !== mine) break;
    const bytes = new Uint8Array(odd.length + value.length);
    bytes.set(odd);
    bytes.set(value, odd.length);
    const even = bytes.length - (bytes.length % 2);
    odd = bytes.slice(even);
    if (!even) continue;
    const samples = new Int16Array(bytes.buffer.slice(0, even));
    if (!first) onStart((first = (performance.now() - asked) / 1000));
    parts.push(samples);
    schedule(mine, samples, rate);
    onSamples(parts);
  }
  return { wav: wav(parts, rate), seconds: count(parts) / rate, first, voice: answer.headers.get("X-Voice-Version"), ended: ended(mine) };
}

function schedule(mine, samples, rate) {
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  mine.next = Math.max(mine.next, context.currentTime + 0.03);
  source.start(mine.next);
  mine.next += buffer.duration;
  mine.sources.add(source);
  source.onended = () => mine.sources.delete(source);
}

const ended = (mine) => new Promise((resolve) => setTimeout(resolve, Math.max(0, mine.next - context.currentTime) * 1000));
const count = (parts) => parts.reduce((sum, part) => sum + part.length, 0);

export function wav(parts, rate) {
  const bytes = 2 * count(parts);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, index) => head.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF"); head.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt "); head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); head.setUint16(22, 1, true); head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true); text(36, "data"); head.setUint32(40, bytes, true);
  return new Blob([head, ...parts], { type: "audio/wav" });
}

export function drawWave(canvas, parts) {
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
  const pen = canvas.getContext("2d");
  const total = count(parts);
  const bar = 3 * devicePixelRatio;
  const bars = Math.floor(width / bar);
  const peaks = new Float32Array(bars);
  let at = 0;
  for (const part of parts) {
    for (let index = 0; index < part.length; index += 4) {
      const place = Math.min(bars - 1, Math.floor(((at + index) / total) * bars));
      peaks[place] = Math.max(peaks[place], Math.abs(part[index]) / 32768);
    }
    at += part.length;
  }
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue("--accent");
  peaks.forEach((peak, index) => {
    const tall = Math.max(devicePixelRatio * 1.5, Math.sqrt(peak) * height * 0.9);
    pen.fillRect(index * bar, (height - tall) / 2, bar * 0.62, tall);
  });
}
