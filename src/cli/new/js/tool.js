// A tool that greets. An error that is thrown is the error of the result.

/** Longest name, in bytes. */
const NAME_BYTES = 100;

/** Bytes of a text in UTF-8. */
function bytes(text) {
  let count = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    count += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return count;
}

export const greeting = {
  greet(name) {
    const length = bytes(name);
    if (length === 0) throw { tag: "no-name" };
    if (length > NAME_BYTES) throw { tag: "too-long", val: length };
    return `Hello, ${name}!`;
  },
};
