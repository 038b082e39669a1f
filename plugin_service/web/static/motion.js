// Movement that helps the eye follow a change of order, and none where the reader asked for none.

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Whether the reader asked for as little movement as possible. */
export function prefersStill() {
  return still.matches;
}

/**
 * Change the order of a list's items in `mutate`, then let each glide from its old place to its new one (FLIP).
 * Items are told apart by `data-key`; new ones fade in.
 */
export function glide(list, mutate) {
  const before = new Map([...list.children].map((item) => [item.dataset.key, item.getBoundingClientRect().top]));
  mutate();
  if (prefersStill()) return;
  for (const item of list.children) {
    const was = before.get(item.dataset.key);
    if (was === undefined) {
      item.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 360, easing: "ease-out" });
      continue;
    }
    const shift = was - item.getBoundingClientRect().top;
    if (Math.abs(shift) < 1) continue;
    item.animate([{ transform: `translateY(${shift}px)` }, { transform: "none" }], {
      duration: 520,
      easing: "cubic-bezier(.22,.8,.24,1)",
    });
  }
}
