//! What differs between two texts, line by line: the longest common subsequence of their lines.

const std = @import("std");
const c = @import("bindings.zig");

const allocator = std.heap.c_allocator;

/// Most pairs of lines that are compared, after what both texts begin and end with is left out.
const most_pairs = 1_000_000;

const Lines = std.ArrayList([]const u8);

const Failure = error{ OutOfMemory, TooDifferent };

export fn exports_tools_diff_lines_diff(
    before: *c.String,
    after: *c.String,
    ret: *c.Changes,
    err: *c.Error,
) bool {
    defer free(before);
    defer free(after);
    var pairs: u64 = 0;
    ret.* = compare(bytes(before), bytes(after), &pairs) catch |failure| {
        switch (failure) {
            error.TooDifferent => err.* = .{ .tag = .too_different, .too_different = pairs },
            error.OutOfMemory => err.tag = .out_of_memory,
        }
        return false;
    };
    return true;
}

fn bytes(string: *const c.String) []const u8 {
    return if (string.ptr) |ptr| ptr[0..string.len] else "";
}

/// The host's strings are allocations of ours; those of length 0 are none.
fn free(string: *c.String) void {
    if (string.len > 0) std.c.free(string.ptr);
}

fn compare(before: []const u8, after: []const u8, pairs: *u64) Failure!c.Changes {
    var old = try split(before);
    defer old.deinit(allocator);
    var new = try split(after);
    defer new.deinit(allocator);
    var a = old.items;
    var b = new.items;
    var skipped: usize = 0;
    while (a.len > 0 and b.len > 0 and equal(a[0], b[0])) : (skipped += 1) {
        a = a[1..];
        b = b[1..];
    }
    while (a.len > 0 and b.len > 0 and equal(a[a.len - 1], b[b.len - 1])) {
        a = a[0 .. a.len - 1];
        b = b[0 .. b.len - 1];
    }
    pairs.* = @as(u64, a.len) * b.len;
    if (pairs.* > most_pairs) return error.TooDifferent;
    const common = try table(a, b);
    defer allocator.free(common);
    return changes(a, b, common, skipped);
}

/// The lines of a text. A line end at its very end begins no line.
fn split(text: []const u8) Failure!Lines {
    var lines: Lines = .empty;
    errdefer lines.deinit(allocator);
    var rest = text;
    while (rest.len > 0) {
        const end = std.mem.indexOfScalar(u8, rest, '\n') orelse rest.len;
        try lines.append(allocator, rest[0..end]);
        rest = rest[@min(end + 1, rest.len)..];
    }
    return lines;
}

fn equal(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

/// For each pair of places, how many lines the rests of both texts have in common. With as many
/// pairs as there may be, the shorter text has 1,000 lines, which 16 bits hold.
fn table(a: []const []const u8, b: []const []const u8) Failure![]u16 {
    const width = b.len + 1;
    const common = try allocator.alloc(u16, (a.len + 1) * width);
    @memset(common, 0);
    var i = a.len;
    while (i > 0) {
        i -= 1;
        var j = b.len;
        while (j > 0) {
            j -= 1;
            common[i * width + j] = if (equal(a[i], b[j]))
                common[(i + 1) * width + j + 1] + 1
            else
                @max(common[(i + 1) * width + j], common[i * width + j + 1]);
        }
    }
    return common;
}

fn changes(
    a: []const []const u8,
    b: []const []const u8,
    common: []const u16,
    skipped: usize,
) Failure!c.Changes {
    const width = b.len + 1;
    const most = a.len + b.len - 2 * @as(usize, common[0]);
    if (most == 0) return .{ .ptr = null, .len = 0 };
    const found = try allocator.alloc(c.Change, most);
    var made: usize = 0;
    errdefer {
        for (found[0..made]) |*change| free(&change.text);
        allocator.free(found);
    }
    var i: usize = 0;
    var j: usize = 0;
    while (made < most) {
        if (i < a.len and j < b.len and equal(a[i], b[j])) {
            i += 1;
            j += 1;
            continue;
        }
        const remove = j == b.len or
            (i < a.len and common[(i + 1) * width + j] >= common[i * width + j + 1]);
        const line = if (remove) a[i] else b[j];
        const number = if (remove) i else j;
        found[made] = .{
            .kind = if (remove) .removed else .added,
            .line = @intCast(skipped + number + 1),
            .text = try copied(line),
        };
        made += 1;
        if (remove) i += 1 else j += 1;
    }
    return .{ .ptr = found.ptr, .len = found.len };
}

/// A copy for the host, which the bindings free once it is across.
fn copied(line: []const u8) Failure!c.String {
    if (line.len == 0) return .{ .ptr = null, .len = 0 };
    const copy = std.c.malloc(line.len) orelse return error.OutOfMemory;
    const ptr: [*]u8 = @ptrCast(copy);
    @memcpy(ptr[0..line.len], line);
    return .{ .ptr = ptr, .len = line.len };
}
