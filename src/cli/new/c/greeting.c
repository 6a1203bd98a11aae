// A tool that greets. Arguments are ours to free; what is returned is freed by the bindings.

#include <stdlib.h>
#include <string.h>

#include "tool.h"

// Longest name, in bytes.
#define NAME_BYTES 100

static const char before[] = "Hello, ";

bool exports_local_tool_greeting_greet(tool_string_t *name, tool_string_t *ret,
                                       exports_local_tool_greeting_greet_error_t *err) {
  bool fits = name->len > 0 && name->len <= NAME_BYTES;
  if (name->len == 0) {
    err->tag = EXPORTS_LOCAL_TOOL_GREETING_GREET_ERROR_NO_NAME;
  } else if (!fits) {
    err->tag = EXPORTS_LOCAL_TOOL_GREETING_GREET_ERROR_TOO_LONG;
    err->val.too_long = (uint32_t)name->len;
  } else {
    char text[sizeof before + NAME_BYTES + 1];
    size_t length = sizeof before - 1;
    memcpy(text, before, length);
    memcpy(text + length, name->ptr, name->len);
    length += name->len;
    text[length++] = '!';
    tool_string_dup_n(ret, text, length);
  }
  tool_string_free(name);
  return fits;
}
