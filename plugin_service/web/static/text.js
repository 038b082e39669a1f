// Pure text work: what to show of a document, where its quotes stand, and which links are safe.

const TITLE_FIELDS = ["title", "name", "heading", "headline", "subject"];
const URL_FIELDS = ["url", "link", "href", "uri", "permalink"];
const SNIPPET_CHARS = 320;
const LEAD_CHARS = 70;

/** Text of a dotted field path in a document, or "" where there is none; lists are joined. */
export function fieldText(source, path) {
  if (source === null || typeof source !== "object") return "";
  if (Array.isArray(source)) return source.map((one) => fieldText(one, path)).filter(Boolean).join("\n");
  if (Object.hasOwn(source, path)) return leafText(source[path]);
  for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) {
    const head = path.slice(0, dot);
    if (Object.hasOwn(source, head)) return fieldText(source[head], path.slice(dot + 1));
  }
  return "";
}

function leafText(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return value.map(leafText).filter(Boolean).join("\n");
  return "";
}

/** The name of the field that titles documents of a policy with these fields. */
export function titleField(fields) {
  return TITLE_FIELDS.find((name) => fields.includes(name)) ?? (fields.length > 1 ? fields[0] : TITLE_FIELDS[0]);
}

/** Only http, https and relative addresses may become links: null for every other. */
export function safeHref(value) {
  if (typeof value !== "string" || value.trim() === "") return null;
  try {
    const url = new URL(value, document.baseURI);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** The document's own address, or null. */
export function documentHref(source) {
  for (const name of URL_FIELDS) {
    const href = safeHref(fieldText(source, name));
    if (href !== null) return href;
  }
  return null;
}

/** An address as people read it: host and path, without scheme and escapes. */
export function readableAddress(href) {
  const url = new URL(href);
  const parts = url.pathname.split("/").filter(Boolean).map(unescaped);
  const host = url.origin === location.origin ? [] : [url.host];
  return [...host, ...parts].join(" › ");
}

function unescaped(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The text with runs of white space as one space and letters in lower case, and where each character came from. */
function folded(text) {
  const characters = [];
  const origins = [];
  let space = true;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (/\s/u.test(character)) {
      if (!space) {
        characters.push(" ");
        origins.push(at);
      }
      space = true;
    } else {
      for (const lower of character.toLowerCase()) {
        characters.push(lower);
        origins.push(at);
      }
      space = false;
    }
  }
  return { text: characters.join(""), origins };
}

/** Where each quote stands in the text, after folding white space and case: [{start, end}], those not found left out. */
export function findQuotes(text, quotes) {
  if (quotes.length === 0) return [];
  const hay = folded(text);
  const found = [];
  for (const quote of quotes) {
    const needle = folded(quote).text.trim();
    const at = needle === "" ? -1 : hay.text.indexOf(needle);
    if (at >= 0) found.push({ start: hay.origins[at], end: hay.origins[at + needle.length - 1] + 1 });
  }
  return found;
}

/** Where the words of the query stand closest together, or 0. */
function bestStart(text, words) {
  const terms = [...new Set(words.toLowerCase().match(/[\p{L}\p{N}]{2,}/gu) ?? [])];
  if (terms.length === 0) return 0;
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${terms.join("|")})`, "giu");
  const places = [];
  for (const match of text.matchAll(pattern)) {
    places.push({ at: match.index, term: match[0].toLowerCase() });
    if (places.length === 300) break;
  }
  let best = { distinct: 0, at: 0 };
  places.forEach((first, index) => {
    const seen = new Set();
    for (let next = index; next < places.length && places[next].at < first.at + SNIPPET_CHARS; next += 1) {
      seen.add(places[next].term);
    }
    if (seen.size > best.distinct) best = { distinct: seen.size, at: first.at };
  });
  return best.at;
}

/**
 * A stretch of the document around its first quote, or else around the query's words, or else from its start.
 * Answers parts [{text, marked}] whose concatenation is the snippet.
 */
export function snippet(text, quotes, words) {
  const found = findQuotes(text, quotes).sort((a, b) => a.start - b.start);
  const focus = found[0] ?? { start: bestStart(text, words), end: 0 };
  const start = wordStart(text, focus.start - LEAD_CHARS, focus.start);
  const end = wordEnd(text, Math.max(start + SNIPPET_CHARS, focus.end));
  const parts = start > 0 ? [{ text: "… ", marked: false }] : [];
  let at = start;
  for (const span of found) {
    if (span.start < at || span.start >= end) continue;
    parts.push({ text: text.slice(at, span.start), marked: false });
    parts.push({ text: text.slice(span.start, Math.min(span.end, end)), marked: true });
    at = Math.min(span.end, end);
  }
  parts.push({ text: text.slice(at, end), marked: false });
  if (end < text.trimEnd().length) parts.push({ text: " …", marked: false });
  return parts.filter((part) => part.text !== "");
}

function wordStart(text, wanted, latest) {
  if (wanted <= 0) return 0;
  const space = text.slice(wanted, latest).search(/\s/u);
  return space < 0 ? latest : wanted + space + 1;
}

function wordEnd(text, wanted) {
  if (wanted >= text.length) return text.length;
  const space = text.slice(0, wanted).search(/\s\S*$/u);
  return space > wanted - 40 ? space : wanted;
}
