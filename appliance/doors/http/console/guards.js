// Voices that nobody may clone, and likenesses that a person has to judge.
import { call, get, post, remove } from "./api.js";
import { $, danger, element, fill, onSubmit, small, tag, what } from "./builders.js";
import { word } from "./words.js";

const KINDS = { waiting: "grey", allowed: "", denied: "bad" };

function protectedRow(voice) {
  const end = async () => {
    await remove(`/v1/protected-voices/${voice.id}`);
    await showGuards();
  };
  return element("li", {}, what(voice.name, voice.created_at.slice(0, 10)), danger("r_unprotect", end));
}

function reviewRow(review) {
  const decide = (decision) => async () => {
    await post(`/v1/gate-reviews/${review.id}`, { decision });
    await showGuards();
  };
  const about = word(`r_like_${review.kind}`, { voice: review.voice, other: review.other });
  const buttons = ["allow", "deny"].filter((one) => !review.state.startsWith(one === "allow" ? "allow" : "den")).map((one) => small(`r_${one}`, decide(one)));
  return element("li", { id: review.id }, what(about, word("r_score", { score: review.score })), tag(word(`r_${review.state}`), KINDS[review.state]), ...buttons);
}

export async function showGuards() {
  const [voices, reviews] = await Promise.all([get("/v1/protected-voices"), get("/v1/gate-reviews")]);
  fill($("protected"), voices.items.map(protectedRow), word("r_noProtected"));
  fill($("reviews"), reviews.items.map(reviewRow), word("r_noReviews"));
}

async function protect(form) {
  const body = new FormData();
  body.append("name", $("protected-name").value);
  body.append("file", $("protected-file").files[0]);
  await call("/v1/protected-voices", { method: "POST", body });
  form.reset();
  await showGuards();
}

export function beginGuards() {
  onSubmit($("protect-form"), protect);
}
