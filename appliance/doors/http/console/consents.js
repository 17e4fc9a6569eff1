// Who agreed to what: the consents there are, ending one, and a new one by word of mouth.
import { call, get, post, remove } from "./api.js";
import { $, danger, element, fill, guarded, onSubmit, tag, what } from "./builders.js";
import { canRecord, startRecording } from "./recorder.js";
import { currentLanguage, word } from "./words.js";

const PURPOSES = ["clone", "speak", "announce", "publish", "share"];
let statement = null; // what is to be said, once it was asked for
let finish = null; // ends the recording that runs

const day = (time) => new Date(time).toLocaleDateString(currentLanguage() === "zh" ? "zh-CN" : "en-GB");

export function purposeBoxes(name, chosen = []) {
  return PURPOSES.map((purpose) => element("label", { class: "check" },
    element("input", { type: "checkbox", name, value: purpose, checked: chosen.includes(purpose) }), element("span", {}, word(`r_${purpose}`))));
}

export const purposeWords = (purposes) => purposes.map((purpose) => word(`r_${purpose}`)).join(", ");

function stateOf(consent) {
  if (consent.revoked_at) return [word("r_revoked", { on: day(consent.revoked_at) }), "bad"];
  if (consent.expires_at && new Date(consent.expires_at) <= new Date()) return [word("r_expired", { on: day(consent.expires_at) }), "bad"];
  return [consent.expires_at ? word("r_until", { on: day(consent.expires_at) }) : word("r_valid"), ""];
}

function row(consent) {
  const [state, kind] = stateOf(consent);
  const detail = [purposeWords(consent.purposes), word(`r_${consent.strength}`), day(consent.created_at)].join(" · ");
  const end = async () => {
    await remove(`/v1/consents/${consent.id}`);
    await showConsents();
  };
  const who = consent.voice ? `${consent.speaker} → ${consent.voice}` : `${consent.speaker} → ${word("r_allVoices")}`;
  return element("li", { id: consent.id }, what(who, detail), tag(state, kind), kind ? null : danger("r_revoke", end));
}

export async function showConsents() {
  fill($("consents"), (await get("/v1/consents?limit=200")).items.map(row), word("r_noConsents"));
}

async function ask(form) {
  const purposes = [...form.querySelectorAll("input[name=purpose]:checked")].map((box) => box.value);
  const until = $("consent-until").value;
  const order = { speaker: $("consent-speaker").value, voice: $("consent-voice").value, purposes, language: currentLanguage() };
  statement = await post("/v1/consent-statements", { ...order, ...(until && { expires_at: `${until}T23:59:59Z` }) });
  $("statement-text").textContent = statement.statement;
  $("statement").hidden = false;
  $("statement-state").textContent = "";
}

async function hand(blob, name) {
  $("statement-state").textContent = word("r_listening");
  const form = new FormData();
  form.append("file", blob, name);
  try {
    await call(`/v1/consent-statements/${statement.id}`, { method: "POST", body: form });
    $("statement-state").textContent = word("r_heard");
    await showConsents();
  } catch (error) {
    $("statement-state").textContent = `${error.message} ${error.remedy}`;
  }
}

async function toggle() {
  if (finish) {
    const end = finish;
    finish = null;
    $("statement-record").textContent = word("record");
    await hand(await end(), "statement.wav");
    return;
  }
  if (!canRecord()) {
    $("statement-state").textContent = word("insecure");
    return;
  }
  finish = await startRecording((level) => { $("statement-level").value = level; });
  $("statement-level").hidden = false;
  $("statement-record").textContent = word("stopRecording");
}

export function beginConsents() {
  $("consent-purposes").replaceChildren(...purposeBoxes("purpose", ["clone", "speak"]));
  onSubmit($("consent-form"), ask);
  $("statement-record").addEventListener("click", guarded(toggle));
  $("statement-file").addEventListener("change", guarded(({ currentTarget }) => hand(currentTarget.files[0], currentTarget.files[0].name)));
}
