// Reading a sheet aloud, prompt by prompt: what is read is judged at once, and the next line follows when it is good.
import { call, get, post, Problem } from "./api.js";
import { $ } from "./builders.js";
import { canRecord, startRecording } from "./recorder.js";
import { word } from "./words.js";

const KEY = "voiced.session";
let session = null;
let finish = null;

export async function beginReading(onClip) {
  const before = localStorage.getItem(KEY);
  const order = { speaker: $("reader").value.trim(), language: $("sheet").value };
  session = null;
  if (before) session = await get(`/v1/recording-sessions/${before}`).catch(() => null);
  const isOther = session && (session.speaker !== order.speaker || session.language !== order.language || session.is_complete);
  if (!session || isOther) session = await post("/v1/recording-sessions", order);
  localStorage.setItem(KEY, session.id);
  $("reading").hidden = false;
  $("read").onclick = () => toggle(onClip).catch((error) => show(error.message));
  showPrompt();
}

function showPrompt() {
  const done = session.recordings.length;
  $("prompt").textContent = session.next ? session.next.text : word("readAll");
  $("read").disabled = !session.next;
  $("reading-state").textContent = word("readSoFar", { done, all: session.prompts.length });
}

function show(text) {
  $("reading-verdict").textContent = text;
}

async function toggle(onClip) {
  if (!finish) {
    if (!canRecord()) return show(word("insecure"));
    show("");
    finish = await startRecording((level) => { $("reading-level").value = level; });
    return mark(true);
  }
  const stop = finish;
  finish = null;
  mark(false);
  await send(await stop(), onClip);
}

function mark(isLive) {
  $("read").classList.toggle("is-live", isLive);
  $("read-word").textContent = word(isLive ? "stopRecording" : "readButton");
  $("reading-level").hidden = !isLive;
}

async function send(blob, onClip) {
  const form = new FormData();
  form.append("file", blob, `${session.next.id}.wav`);
  show(word("checking", { name: session.next.id }));
  try {
    const answer = await (await call(`/v1/recording-sessions/${session.id}/clips`, { method: "POST", body: form })).json();
    session = answer.session;
    show(word("accepted"));
    onClip(answer.recording);
  } catch (error) {
    if (!(error instanceof Problem) || !error.body.reasons) throw error;
    show(error.body.reasons.map((reason) => `${reason.message} ${reason.remedy}`).join(" "));
  }
  showPrompt();
}
