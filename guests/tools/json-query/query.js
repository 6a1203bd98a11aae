// Values in a JSON text, by their paths. An error that is thrown is the error of the result.

const MOST_VALUES = 10000;

/** How deep lists and objects may lie in one another: parsing takes stack for each. */
const MOST_DEEP = 200;

/** Throws where a text is nested deeper than that. What stands in strings does not count. */
function shallow(json) {
  let depth = 0;
  for (const [sign] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if (sign === "[" || sign === "{") depth++;
    else if (sign === "]" || sign === "}") depth--;
    if (depth > MOST_DEEP) throw { tag: "invalid-json", val: `nested deeper than ${MOST_DEEP}` };
  }
}

/** A step of a path and where it stands, or throws what is wrong with the path. */
function steps(path) {
  const wrong = (position, reason) => ({ tag: "invalid-path", val: { position, reason } });
  if (path[0] !== "$") throw wrong(0, "a path begins with $");
  const found = [];
  const step = /\.\*|\[\*\]|\.([A-Za-z_][A-Za-z0-9_-]*)|\[(-?[0-9]{1,9})\]|\['((?:[^'\\]|\\.)*)'\]/y;
  let at = 1;
  while (at < path.length) {
    step.lastIndex = at;
    const hit = step.exec(path);
    if (!hit) throw wrong([...path.slice(0, at)].length, "no .name, ['name'], [number], .* or [*]");
    const [, name, index, quoted] = hit;
    if (name !== undefined) found.push({ name });
    else if (index !== undefined) found.push({ index: Number(index) });
    else if (quoted !== undefined) found.push({ name: quoted.replace(/\\(.)/g, "$1") });
    else found.push({ all: true });
    at = step.lastIndex;
  }
  return found;
}

/** A name as the next step of a path. */
function named(name) {
  if (/^[A-Za-z_][A-Za-z0-9_-]*$/.test(name)) return "." + name;
  return "['" + name.replace(/[\\']/g, "\\$&") + "']";
}

/** Where one step leads from a value: pairs of path and value. */
function* next({ path, value }, step) {
  if (value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    if (step.all) for (let i = 0; i < value.length; i++) yield { path: `${path}[${i}]`, value: value[i] };
    if (step.index === undefined) return;
    const index = step.index < 0 ? value.length + step.index : step.index;
    if (index >= 0 && index < value.length) yield { path: `${path}[${index}]`, value: value[index] };
    return;
  }
  if (step.all) for (const name of Object.keys(value)) yield { path: path + named(name), value: value[name] };
  // What every object inherits is not in the text.
  if (step.name !== undefined && Object.hasOwn(value, step.name)) {
    yield { path: path + named(step.name), value: value[step.name] };
  }
}

export const query = {
  select(json, path) {
    const way = steps(path);
    shallow(json);
    let value;
    try {
      value = JSON.parse(json);
    } catch (error) {
      throw { tag: "invalid-json", val: String(error.message) };
    }
    let here = [{ path: "$", value }];
    for (const step of way) {
      const there = [];
      for (const place of here) {
        for (const found of next(place, step)) {
          if (there.push(found) > MOST_VALUES) throw { tag: "too-many", val: there.length };
        }
      }
      here = there;
    }
    return here.map((place) => ({ path: place.path, json: JSON.stringify(place.value) }));
  },
};
