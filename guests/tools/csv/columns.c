// Column figures of CSV. The text comes as one allocation that is ours to free; names of columns go
// out in allocations of their own, which the bindings free once they are across.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

#define MOST_COLUMNS 256

typedef exports_tools_csv_columns_column_t column_t;
typedef exports_tools_csv_columns_csv_error_t csv_error_t;

// What is known of a column while rows are read.
typedef struct {
  char *name;
  size_t name_bytes;
  uint32_t filled, empty, longest;
  bool all_numbers;
  double min, max, sum;
} tally_t;

// The text, and how far it has been read.
typedef struct {
  const uint8_t *next, *end;
  uint32_t line;
  uint8_t separator;
  // The field read last, without its quotes.
  char *field;
  size_t bytes, room;
} reader_t;

typedef enum { FIELD_ENDS, ROW_ENDS, TEXT_ENDS, OPEN_QUOTE, NO_MEMORY } outcome_t;

static bool take(reader_t *reader, uint8_t byte) {
  // Room for a final zero, so that the field is also a C string.
  if (reader->bytes + 1 >= reader->room) {
    size_t room = reader->room ? reader->room * 2 : 64;
    char *grown = realloc(reader->field, room);
    if (!grown) return false;
    reader->field = grown;
    reader->room = room;
  }
  reader->field[reader->bytes++] = (char)byte;
  reader->field[reader->bytes] = 0;
  return true;
}

// Reads to the closing quote; a doubled one is one that belongs to the field.
static outcome_t read_quoted(reader_t *reader) {
  for (; reader->next < reader->end; reader->next++) {
    uint8_t byte = *reader->next;
    if (byte == '"') {
      bool doubled = reader->next + 1 < reader->end && reader->next[1] == '"';
      if (!doubled) {
        reader->next++;
        return FIELD_ENDS;
      }
      reader->next++;
    }
    if (byte == '\n') reader->line++;
    if (!take(reader, byte)) return NO_MEMORY;
  }
  return OPEN_QUOTE;
}

// Reads a field and what ends it.
static outcome_t read_field(reader_t *reader) {
  reader->bytes = 0;
  if (reader->field) reader->field[0] = 0;
  if (reader->next < reader->end && *reader->next == '"') {
    reader->next++;
    outcome_t quoted = read_quoted(reader);
    if (quoted != FIELD_ENDS) return quoted;
  }
  while (reader->next < reader->end) {
    uint8_t byte = *reader->next++;
    if (byte == reader->separator) return FIELD_ENDS;
    if (byte == '\r' && reader->next < reader->end && *reader->next == '\n') continue;
    if (byte == '\n') {
      reader->line++;
      return ROW_ENDS;
    }
    if (!take(reader, byte)) return NO_MEMORY;
  }
  return TEXT_ENDS;
}

static bool is_number(const reader_t *reader, double *number) {
  // strtod also takes "nan", "inf" and hexadecimal digits, which no spreadsheet writes.
  if (strspn(reader->field, "0123456789+-.eE ") != reader->bytes) return false;
  char *rest;
  *number = strtod(reader->field, &rest);
  rest += strspn(rest, " ");
  return rest != reader->field && *rest == 0 && isfinite(*number);
}

static void count(tally_t *tally, const reader_t *reader) {
  if (reader->bytes == 0) {
    tally->empty++;
    return;
  }
  tally->filled++;
  if (reader->bytes > tally->longest) tally->longest = (uint32_t)reader->bytes;
  double number;
  if (!tally->all_numbers || !is_number(reader, &number)) {
    tally->all_numbers = false;
    return;
  }
  if (tally->filled == 1 || number < tally->min) tally->min = number;
  if (tally->filled == 1 || number > tally->max) tally->max = number;
  tally->sum += number;
}

// Keeps the field as the column's name.
static bool name_column(tally_t *tally, const reader_t *reader) {
  // The bindings free no string of length 0.
  if (!reader->bytes) return true;
  tally->name = malloc(reader->bytes);
  if (!tally->name) return false;
  memcpy(tally->name, reader->field, reader->bytes);
  tally->name_bytes = reader->bytes;
  return true;
}

// A column without a name in the text is called by its number.
static bool number_column(tally_t *tally, uint32_t number) {
  char digits[10];
  size_t length = 0;
  for (; number; number /= 10) digits[length++] = (char)('0' + number % 10);
  tally->name = malloc(length);
  if (!tally->name) return false;
  tally->name_bytes = length;
  for (size_t i = 0; i < length; i++) tally->name[i] = digits[length - 1 - i];
  return true;
}

// Reads all rows. True where something is wrong, which `err` then tells.
static bool read_rows(reader_t *reader, bool header, tally_t *tallies, uint32_t *columns,
                      csv_error_t *err) {
  for (bool first = true; reader->next < reader->end; first = false) {
    uint32_t begins = reader->line, fields = 0;
    outcome_t outcome = FIELD_ENDS;
    while (outcome == FIELD_ENDS) {
      uint32_t field_begins = reader->line;
      outcome = read_field(reader);
      if (outcome == OPEN_QUOTE) {
        err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_OPEN_QUOTE;
        err->val.open_quote = field_begins;
        return true;
      }
      if (outcome == NO_MEMORY) {
        err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_OUT_OF_MEMORY;
        return true;
      }
      // Fields beyond the last column are counted, to be told of.
      if (fields < MOST_COLUMNS && (first || fields < *columns)) {
        tally_t *tally = &tallies[fields];
        if (first) {
          tally->all_numbers = true;
          if (!(header ? name_column(tally, reader) : number_column(tally, fields + 1))) {
            err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_OUT_OF_MEMORY;
            return true;
          }
          *columns = fields + 1;
        }
        if (!first || !header) count(tally, reader);
      }
      fields++;
    }
    if (fields > MOST_COLUMNS) {
      err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_TOO_MANY_COLUMNS;
      err->val.too_many_columns = fields;
      return true;
    }
    if (fields != *columns) {
      err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_RAGGED;
      err->val.ragged.line = begins;
      err->val.ragged.expected = *columns;
      err->val.ragged.found = fields;
      return true;
    }
  }
  return false;
}

// Moves what was found into what is returned, the names with it.
static bool hand_over(tally_t *tallies, uint32_t columns,
                      exports_tools_csv_columns_list_column_t *ret) {
  column_t *list = calloc(columns, sizeof(column_t));
  if (!list) return false;
  for (uint32_t i = 0; i < columns; i++) {
    tally_t *tally = &tallies[i];
    list[i].name.ptr = (uint8_t *)tally->name;
    list[i].name.len = tally->name_bytes;
    tally->name = NULL;
    list[i].filled = tally->filled;
    list[i].empty = tally->empty;
    list[i].longest = tally->longest;
    list[i].numbers.is_some = tally->all_numbers && tally->filled > 0;
    list[i].numbers.val.min = tally->min;
    list[i].numbers.val.max = tally->max;
    list[i].numbers.val.mean = tally->sum / tally->filled;
  }
  ret->ptr = list;
  ret->len = columns;
  return true;
}

bool exports_tools_csv_columns_describe(csv_string_t *text,
                                        exports_tools_csv_columns_dialect_t *dialect,
                                        exports_tools_csv_columns_list_column_t *ret,
                                        csv_error_t *err) {
  uint32_t separator = dialect->separator, columns = 0;
  bool may_be = separator > 0 && separator < 128 && !strchr("\"\r\n", (int)separator);
  tally_t *tallies = NULL;
  bool answered = false;
  reader_t reader = {.next = text->ptr, .end = text->ptr + text->len, .line = 1,
                     .separator = (uint8_t)separator};
  if (!may_be) {
    err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_BAD_SEPARATOR;
  } else if (text->len == 0) {
    err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_NO_ROWS;
  } else if (!(tallies = calloc(MOST_COLUMNS, sizeof(tally_t)))) {
    err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_OUT_OF_MEMORY;
  } else if (!read_rows(&reader, dialect->header, tallies, &columns, err)) {
    answered = hand_over(tallies, columns, ret);
    if (!answered) err->tag = EXPORTS_TOOLS_CSV_COLUMNS_CSV_ERROR_OUT_OF_MEMORY;
  }
  for (uint32_t i = 0; tallies && i < columns; i++) free(tallies[i].name);
  free(tallies);
  free(reader.field);
  csv_string_free(text);
  return answered;
}
