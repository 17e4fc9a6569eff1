// The box's own API, as every other client sees it. A token is asked for once and kept until the tab is closed; who has
// a login gets a cookie instead, which no script can read.
import { currentLanguage, word } from "./words.js";

const KEY = "voiced.token";
let asking = null;
let complaint = ""; // what the box said about the last try to sign in

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.remedy = body.remedy || "";
    this.body = body;
  }
}

export async function call(path, options = {}) {
  const { json, ...rest } = options;
  const headers = { "Accept-Language": currentLanguage(), ...(rest.headers || {}) };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { ...rest, headers, body: json === undefined ? rest.body : JSON.stringify(json) });
  if (answer.status === 401) {
    await askToken(Boolean(token));
    return call(path, options);
  }
  if (!answer.ok && answer.status !== 304) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export const get = async (path) => (await call(path)).json();
export const post = async (path, json) => (await call(path, { method: "POST", json })).json();
export const remove = (path) => call(path, { method: "DELETE" });

function askToken(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const input = document.getElementById("token");
    const login = document.getElementById("login");
    document.getElementById("token-wrong").textContent = complaint || (wasWrong ? word("tokenWrong") : "");
    input.value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", async () => {
      complaint = "";
      sessionStorage.removeItem(KEY);
      if (login?.value.trim()) await signIn(login.value.trim(), input.value);
      else sessionStorage.setItem(KEY, input.value.trim());
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function signIn(login, password) {
  const headers = { "Accept-Language": currentLanguage(), "Content-Type": "application/json" };
  const answer = await fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ login, password }) });
  if (!answer.ok) complaint = (await answer.json().catch(() => ({}))).detail || `HTTP ${answer.status}`;
}

// Server-sent events by fetch: EventSource cannot carry a token.
export async function* events(path, signal) {
  const answer = await call(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}
