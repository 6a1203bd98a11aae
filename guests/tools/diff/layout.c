// Fails to compile where the generated header is not what bindings.zig takes it for.

#include "diff.h"

typedef diff_string_t string_t;
typedef exports_tools_diff_lines_change_t change_t;
typedef exports_tools_diff_lines_list_change_t changes_t;
typedef exports_tools_diff_lines_diff_error_t error_t;

_Static_assert(sizeof(string_t) == 8 && offsetof(string_t, len) == 4, "String");
_Static_assert(sizeof(change_t) == 16 && offsetof(change_t, line) == 4, "Change");
_Static_assert(offsetof(change_t, text) == 8, "Change");
_Static_assert(sizeof(changes_t) == 8 && offsetof(changes_t, len) == 4, "Changes");
_Static_assert(sizeof(error_t) == 16 && offsetof(error_t, val.too_different) == 8, "Error");
_Static_assert(EXPORTS_TOOLS_DIFF_LINES_KIND_REMOVED == 0, "Kind");
_Static_assert(EXPORTS_TOOLS_DIFF_LINES_KIND_ADDED == 1, "Kind");
_Static_assert(EXPORTS_TOOLS_DIFF_LINES_DIFF_ERROR_TOO_DIFFERENT == 0, "ErrorTag");
_Static_assert(EXPORTS_TOOLS_DIFF_LINES_DIFF_ERROR_OUT_OF_MEMORY == 1, "ErrorTag");

// The signature, too: a declaration that differs from the header's does not compile.
bool exports_tools_diff_lines_diff(string_t *before, string_t *after, changes_t *ret, error_t *err);
