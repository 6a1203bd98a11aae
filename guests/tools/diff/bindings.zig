//! The types and functions of the generated header, as Zig sees them. `layout.c` holds both to the
//! same sizes and places, since no compiler compares the two.

pub const String = extern struct { ptr: ?[*]u8, len: usize };

pub const Kind = enum(u8) { removed = 0, added = 1 };

pub const Change = extern struct { kind: Kind, line: u32, text: String };

pub const Changes = extern struct { ptr: ?[*]Change, len: usize };

pub const ErrorTag = enum(u8) { too_different = 0, out_of_memory = 1 };

pub const Error = extern struct { tag: ErrorTag, too_different: u64 };

comptime {
    const expected = .{
        .{ @sizeOf(String), 8 },               .{ @offsetOf(String, "len"), 4 },
        .{ @sizeOf(Change), 16 },              .{ @offsetOf(Change, "line"), 4 },
        .{ @offsetOf(Change, "text"), 8 },     .{ @sizeOf(Changes), 8 },
        .{ @offsetOf(Changes, "len"), 4 },     .{ @sizeOf(Error), 16 },
        .{ @offsetOf(Error, "too_different"), 8 },
    };
    for (expected) |pair| {
        if (pair[0] != pair[1]) @compileError("not laid out as layout.c says");
    }
}
