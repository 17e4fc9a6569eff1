// What the pages of the console are built of.
import { word } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const tag = (text, kind = "") => element("span", { class: `tag ${kind}` }, text);
export const what = (title, detail, ...more) => element("div", { class: "what" }, element("b", {}, title), element("small", {}, detail), ...more);
export const fill = (list, rows, empty = "") => list.replaceChildren(...(rows.length || !empty ? rows : [element("li", { class: "empty" }, empty)]));
export const small = (key, work) => element("button", { type: "button", class: "small", onclick: guarded(work) }, word(key));

export function tell(error) {
  if (error.name === "AbortError") return;
  const box = element("div", { class: "toast" }, element("b", {}, error.message), element("span", {}, error.remedy || ""));
  $("toasts").append(box);
  setTimeout(() => box.remove(), 9000);
}

export const guarded = (work) => async (...given) => {
  try {
    await work(...given);
  } catch (error) {
    tell(error);
  }
};

// What cannot be undone is asked twice, with the same button.
export function danger(key, work) {
  let isSure = false;
  const button = element("button", {
    type: "button",
    class: "small danger",
    onclick: guarded(async () => {
      if (isSure) return work();
      isSure = true;
      button.textContent = word("r_sure");
      setTimeout(() => {
        isSure = false;
        button.textContent = word(key);
      }, 5000);
    }),
  }, word(key));
  return button;
}

export const onSubmit = (form, work) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(work)(form);
});
