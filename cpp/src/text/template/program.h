// A compiled chat template: the tree that converters/text/chat_template.py writes, read and checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "text/template/filter.h"

namespace edgekit::tmpl {

// The fields of each are in the table of ops in program.cpp.
enum class Op : std::uint8_t {
    // statements
    text,
    print,
    if_,
    for_,
    break_,
    continue_,
    set,
    set_block,
    filter_block,
    with,
    scope,
    macro,
    call_block,
    // targets of assignments (a name is also an expression)
    name,
    nsref,
    unpack,
    // expressions
    constant,
    slot,
    list,
    tuple,
    dict,
    cond,
    not_,
    neg,
    pos,
    and_,
    or_,
    add,
    sub,
    mul,
    div,
    floordiv,
    mod,
    concat,
    compare,
    attr,
    item,
    slice,
    call,
    filter,
    test,
    map,
    select,
    fail,
    // several nodes, or no node, where a field holds them
    sequence,
    none,
};

enum class Comparison : std::uint8_t { eq, ne, lt, le, gt, ge, in, not_in };

struct Node {
    Op op = Op::none;
    std::uint32_t line = 0;
    std::uint32_t index = 0;  // of a constant, a name, a slot
    std::string text;         // what is printed, a name, an attribute, a message
    std::vector<std::string> names;
    std::vector<std::uint32_t> name_indices;  // of `names`
    std::vector<Comparison> comparisons;
    bool flag = false;
    std::vector<Node> kids;
    const Filter* filter = nullptr;
    const Test* test = nullptr;
};

struct Program {
    Node body;
    std::vector<json::Value> constants;
    std::vector<std::string> names;  // of variables
};

// Throws Error(Status::invalid_file), or Error(Status::unsupported) when a later version wrote it.
Program load_program(std::string_view blob);

}  // namespace edgekit::tmpl
