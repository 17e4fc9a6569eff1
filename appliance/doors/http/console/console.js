import { call, events, get, post, Problem, remove } from "./api.js";
import { $, element, fill, guarded, tag, tell, what } from "./builders.js";
import { drawWave, speak, stop } from "./player.js";
import { beginReading } from "./reading.js";
import { canRecord, startRecording } from "./recorder.js";
import { currentLanguage, setLanguage, showWords, word } from "./words.js";

const SYSTEM_EVERY_MS = 4000;
let voices = [];
const recordings = new Map(); // id -> { row, isChosen }
const watched = new Set();

// ---------------------------------------------------------------- building blocks

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

// ---------------------------------------------------------------- speaking

async function speakText(order, button) {
  button.disabled = true;
  $("speak-state").textContent = word("working");
  const canvas = $("wave");
  canvas.hidden = false;
  try {
    const said = await speak(order, { onSamples: (parts) => drawWave(canvas, parts) });
    const figures = { seconds: said.seconds.toFixed(1), first: said.first.toFixed(2), voice: said.voice };
    $("speak-state").textContent = word("spoken", figures);
    const save = $("save");
    URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(said.wav);
    save.download = `${said.voice}.wav`;
    save.hidden = false;
  } catch (error) {
    $("speak-state").textContent = "";
    canvas.hidden = true;
    throw error;
  } finally {
    button.disabled = false;
  }
}

const asked = () => ({ text: $("text").value, speaker: $("voice").value, speed: Number($("speed").value) });

async function announceText() {
  if (!$("speak-form").reportValidity()) return;
  const { text, speaker } = asked();
  await post("/v1/announcements", { text, voice: speaker });
  $("speak-state").textContent = word("announced");
  await showAnnouncements();
}

// ---------------------------------------------------------------- voices

async function showVoices() {
  const rows = [];
  for (let cursor = ""; cursor !== null;) {
    const page = await get(`/v1/voices?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    rows.push(...page.items);
    cursor = page.next;
  }
  voices = rows;
  const before = $("voice").value || (await get("/v1/system")).speech.default_voice;
  const speaking = voices.filter((voice) => voice.current);
  $("voice").replaceChildren(...speaking.map((voice) => element("option", { value: voice.id }, voice.title || voice.id)));
  if (speaking.some((voice) => voice.id === before)) $("voice").value = before;
  $("voices-count").textContent = voices.length || "";
  fill($("voice-list"), voices.map(voiceRow), word("noVoices"));
}

function voiceRow(voice) {
  const name = voice.title || voice.id;
  const say = guarded(({ currentTarget }) => speakText({ text: word("sample"), speaker: voice.current ? voice.id : `${voice.id}@${voice.latest}` }, currentTarget));
  const detail = [voice.id, ...voice.languages, voice.description].filter(Boolean).join(" · ");
  const state = voice.current ? word("version", { number: voice.current }) : word("notReady");
  const button = element("button", { type: "button", class: "round", "aria-label": word("play", { name }), onclick: say, disabled: !(voice.current || voice.latest) }, icon("play"));
  const promote = async () => {
    await post(`/v1/voices/${voice.id}/promote`, { version: voice.latest });
    await showVoices();
  };
  const isWaiting = voice.latest && voice.latest !== voice.current;
  const use = isWaiting
    ? [element("button", { type: "button", class: "small", onclick: guarded(promote) }, word("promote", { number: voice.latest }))]
    : [];
  const exam = voice.origin === "own" && voice.latest
    ? [element("a", { class: "button small", href: `/console/examination.html?voice=${voice.id}&version=${voice.latest}` }, word("examination"))]
    : [];
  return element("li", {}, button, what(name, detail), tag(state, voice.current ? "grey" : "bad"), ...exam, ...use);
}

// ---------------------------------------------------------------- recordings

async function addRecording(blob, name) {
  $("clone-state").textContent = word("checking", { name });
  const form = new FormData();
  form.append("file", blob, name);
  try {
    const row = await (await call("/v1/recordings", { method: "POST", body: form })).json();
    recordings.set(row.id, { row, isChosen: true });
  } catch (error) {
    if (!(error instanceof Problem) || !error.body.reasons) throw error;
    recordings.set(`refused-${performance.now()}`, { row: { filename: name, accepted: false, report: error.body } });
  } finally {
    $("clone-state").textContent = "";
    showRecordings();
  }
}

async function loadRecordings() {
  for (const row of (await get("/v1/recordings?limit=20")).items) recordings.set(row.id, { row, isChosen: false });
  showRecordings();
}

function showRecordings() {
  fill($("recordings"), [...recordings].map(([id, entry]) => recordingRow(id, entry)));
  const chosen = [...recordings.values()].filter((entry) => entry.isChosen);
  $("clone-form").hidden = ![...recordings.values()].some((entry) => entry.row.accepted);
  const seconds = chosen.reduce((sum, { row }) => sum + row.duration_s, 0);
  $("clone-state").textContent = chosen.length ? word("chosen", { seconds: seconds.toFixed(0) }) : "";
}

function recordingRow(id, entry) {
  const { row } = entry;
  const drop = async () => {
    if (row.id) await remove(`/v1/recordings/${row.id}`);
    recordings.delete(id);
    showRecordings();
  };
  const choose = ({ currentTarget }) => {
    entry.isChosen = currentTarget.checked;
    showRecordings();
  };
  const box = row.accepted
    ? element("label", { class: "check" }, element("input", { type: "checkbox", checked: entry.isChosen, onchange: choose, "aria-label": word("useRecording", { name: row.filename }) }))
    : null;
  const reasons = (row.report.reasons || []).map((reason) => element("li", {}, `${reason.message} `, element("span", {}, reason.remedy)));
  const list = reasons.length ? element("ul", { class: "reasons" }, ...reasons) : null;
  const heard = row.transcript?.length > 120 ? `${row.transcript.slice(0, 120)}…` : row.transcript;
  const detail = row.accepted ? `${row.duration_s.toFixed(1)} s · ${heard}` : "";
  const bin = element("button", { type: "button", class: "plain small", "aria-label": word("remove", { name: row.filename }), onclick: guarded(drop) }, icon("trash"));
  return element("li", {}, ...(box ? [box] : []), what(row.filename || id, detail), tag(row.accepted ? word("accepted") : word("refused"), row.accepted ? "" : "bad"), bin, ...(list ? [list] : []));
}

let finishRecording = null;

async function toggleRecording() {
  if (finishRecording) {
    const finish = finishRecording;
    finishRecording = null;
    showRecorder(false);
    await addRecording(await finish(), `${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`);
    return;
  }
  if (!canRecord()) {
    $("clone-state").textContent = word("insecure");
    return;
  }
  try {
    finishRecording = await startRecording((level, seconds) => {
      $("level").value = level;
      $("record-time").textContent = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    });
    showRecorder(true);
  } catch (error) {
    $("clone-state").textContent = word("noMicrophone", { problem: error.message });
  }
}

function showRecorder(isLive) {
  $("record").classList.toggle("is-live", isLive);
  $("record-word").dataset.word = isLive ? "stopRecording" : "record";
  $("record-word").textContent = word($("record-word").dataset.word);
  $("level").hidden = $("record-time").hidden = !isLive;
  if (isLive) $("script").open = true;
}

// ---------------------------------------------------------------- cloning

async function makeVoice() {
  const chosen = [...recordings.values()].filter((entry) => entry.isChosen).map((entry) => entry.row.id);
  if (!chosen.length) {
    $("clone-state").textContent = word("noneChosen");
    return;
  }
  const voice = $("new-voice").value;
  const consent = { speaker: $("new-title").value || voice, voice, purposes: ["clone", "speak", "announce"] };
  await post("/v1/consents", { ...consent, statement: word("consentStatement"), evidence: chosen[0] });
  const job = await post("/v1/jobs", { kind: "clone", voice, recordings: chosen, title: $("new-title").value });
  for (const entry of recordings.values()) entry.isChosen = false;
  showRecordings();
  $("clone-form").reset();
  showJob(job);
  watch(job.id);
}

async function loadJobs() {
  for (const job of (await get("/v1/jobs?limit=5")).items.reverse()) {
    showJob(job);
    if (["queued", "running", "paused"].includes(job.state)) watch(job.id);
  }
}

const watch = guarded(async (id) => {
  if (watched.has(id)) return;
  watched.add(id);
  for await (const job of events(`/v1/jobs/${id}/events`)) showJob(job);
  watched.delete(id);
  await showVoices();
});

function showJob(job) {
  const isLive = ["queued", "running", "paused"].includes(job.state);
  const left = isLive && job.eta_s ? word("left", { minutes: Math.max(1, Math.ceil(job.eta_s / 60)) }) : "";
  const exam = job.result?.exam;
  const verdict = exam ? word(`exam_${exam.verdict}`) : "";
  const reasons = (exam?.reasons ?? []).map((reason) => element("li", {}, `${reason.message} `, element("span", {}, reason.remedy)));
  const detail = job.error ? `${job.error.message} ${job.error.remedy}` : [isLive ? job.stage_name : verdict, left].filter(Boolean).join(" · ");
  const bar = isLive ? element("progress", { max: 1, value: job.fraction, "aria-label": job.spec?.voice || job.id }) : null;
  const cancel = isLive
    ? element("button", { type: "button", class: "small", onclick: guarded(() => remove(`/v1/jobs/${job.id}`)) }, word("cancel"))
    : null;
  const turn = { paused: "resume", queued: "pause", running: "pause" }[job.state];
  const rest = turn ? element("button", { type: "button", class: "small", onclick: guarded(() => post(`/v1/jobs/${job.id}/${turn}`, {})) }, word(turn)) : null;
  const kind = { done: "", failed: "bad" }[job.state] ?? "grey";
  const row = element("li", { id: job.id }, what(job.spec?.title || job.spec?.voice || job.id, detail, bar), tag(word(`state_${job.state}`), kind), ...(rest ? [rest, cancel] : []), ...(reasons.length ? [element("ul", { class: "reasons" }, ...reasons)] : []));
  const before = $(job.id);
  if (before) before.replaceWith(row);
  else $("jobs").prepend(row);
}

// ---------------------------------------------------------------- loudspeaker and box

async function showAnnouncements() {
  const page = await get("/v1/announcements?limit=6");
  fill($("announcements"), page.items.map((row) => element("li", {}, what(row.text, [row.voice, row.explanation?.message].filter(Boolean).join(" · ")), tag(word(`ann_${row.state}`), { playing: "", failed: "bad" }[row.state] ?? "grey"))), word("nothingSaid"));
}

async function showZones() {
  const { items } = await get("/v1/zones");
  const told = (zone) => [zone.device, zone.playing?.text, ...zone.alarms.map((alarm) => `${alarm.message} ${alarm.remedy}`)].filter(Boolean).join(" · ");
  const row = (zone) => element("li", {}, what(zone.id, told(zone)), tag(translated(`loud_${zone.state}`, zone.state), zone.alarms.length ? "bad" : "grey"));
  $("zones").replaceChildren(...(items.length > 1 ? items.map(row) : [])); // the state of a single one stands above
}

function duration(seconds) {
  const [n, h, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (n) return word("days", { n, h });
  return h ? word("hours", { h, m }) : word("minutes", { m });
}

const translated = (key, otherwise) => (word(key) === key ? otherwise : word(key));
const gigabytes = (bytes) => (bytes / 1e9).toFixed(bytes > 1e10 ? 0 : 1);

async function showSystem() {
  let system;
  try {
    system = await get("/v1/system");
  } catch (error) {
    if (error instanceof Problem) throw error;
    $("status").className = "status off";
    $("status").textContent = word("unreachable");
    return;
  }
  const { box, workers, storage } = system;
  $("status").className = system.is_ready ? "status ok" : "status";
  $("status").textContent = word(system.is_ready ? "ready" : "starting");
  $("box-name").textContent = box.name;
  document.title = `voiced · ${box.name}`;
  const facts = {
    f_name: box.name,
    f_version: box.version,
    f_uptime: duration(box.uptime_s),
    f_active: system.speech.active,
    f_workers: workers.map((worker) => translated(`w_${worker.state}`, worker.state)).join(", "),
    f_memory: `${Math.round(workers.reduce((sum, worker) => sum + (worker.resident_bytes || 0), 0) / 1e6)} MB`,
    f_storage: word("of", { free: gigabytes(storage.free_bytes), total: gigabytes(storage.total_bytes) }),
    f_uuid: box.uuid,
  };
  $("system").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [element("dt", {}, word(key)), element("dd", {}, String(value))]));
  const speaker = system.loudspeaker;
  $("loudspeaker-state").textContent = speaker.message ? `${speaker.message} ${speaker.remedy ?? ""}` : translated(`loud_${speaker.state}`, speaker.state);
}

async function showPlugins() {
  const page = await get("/v1/plugins");
  const kinds = { active: "", quarantined: "bad", blocked: "grey" };
  fill($("plugins"), page.items.map((row) => element("li", {}, what(row.id, row.reason ? `${row.reason} ${row.remedy}` : row.provides.join(" · ")), tag(word(`plug_${row.state}`), kinds[row.state]))));
}

// ---------------------------------------------------------------- start

function showLanguage() {
  $("language").textContent = word("other");
  $("language").lang = currentLanguage() === "zh" ? "en" : "zh-CN";
  $("text").placeholder = word("textHint");
  $("script-text").textContent = word("scriptText");
}

async function showAll() {
  showWords();
  showLanguage();
  await Promise.all([showSystem(), showVoices(), showAnnouncements(), showZones(), showPlugins(), loadRecordings(), loadJobs()].map((part) => part.catch(tell)));
}

$("speak-form").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(speakText)(asked(), $("speak-button"));
});
$("announce-button").addEventListener("click", guarded(announceText));
$("stop-all").addEventListener("click", guarded(async () => {
  stop();
  await remove("/v1/announcements");
  await showAnnouncements();
}));
$("speed").addEventListener("input", () => { $("speed-shown").textContent = `${Number($("speed").value).toFixed(2).replace(/0$/, "")}×`; });
$("file").addEventListener("change", guarded(async ({ currentTarget }) => {
  for (const file of currentTarget.files) await addRecording(file, file.name);
  currentTarget.value = "";
}));
$("record").addEventListener("click", guarded(toggleRecording));
$("begin-reading").addEventListener("click", guarded(() => beginReading((row) => {
  recordings.set(row.id, { row, isChosen: true });
  showRecordings();
})));
$("clone-form").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(makeVoice)();
});
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  showAll();
});

setInterval(() => {
  if (document.hidden) return;
  showSystem().catch(tell);
  showAnnouncements().catch(() => {}); // the status line says it already
  showZones().catch(() => {});
}, SYSTEM_EVERY_MS);
showAll();
