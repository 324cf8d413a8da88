#include "text/template/program.h"

#include <algorithm>
#include <map>

#include "error.h"

namespace edgekit::tmpl {

namespace {

constexpr std::int64_t format_version = 1;
constexpr int max_nesting = 256;  // of JSON arrays

// A node is [name, line, fields...]. The kinds of fields:
//   s text           n names              f flag            v constant          i slot
//   e expression     E expressions        ? expression or null
//   b statements     B lists of statements
//   t target         T targets          - false or null: what no template needs
// Fields e E ? b B t T become kids, in their order.
struct Layout {
    std::string_view name;
    Op op;
    std::string_view fields;
};

constexpr Layout statements[] = {
    {"text", Op::text, "s"},
    {"print", Op::print, "e"},
    {"if", Op::if_, "EB"},        // tests; their bodies and the one of else
    {"for", Op::for_, "tebb?-"},  // target, iterable, body, else, filter
    {"break", Op::break_, ""},
    {"continue", Op::continue_, ""},
    {"set", Op::set, "te"},
    {"set_block", Op::set_block, "tb?"},       // the filter's operand is slot 0
    {"filter_block", Op::filter_block, "be"},  // the same
    {"with", Op::with, "TEb"},
    {"scope", Op::scope, "b"},
    {"macro", Op::macro, "snEbf--"},            // name, parameters, defaults, body; whether it reads caller
    {"call_block", Op::call_block, "enEbf--"},  // call, then as a macro
};

constexpr Layout targets[] = {
    {"name", Op::name, "s"},
    {"nsref", Op::nsref, "ss"},  // namespace, attribute
    {"unpack", Op::unpack, "T"},
};

constexpr Layout expressions[] = {
    {"name", Op::name, "s"},         {"const", Op::constant, "v"},
    {"slot", Op::slot, "i"},         {"list", Op::list, "E"},
    {"tuple", Op::tuple, "E"},       {"dict", Op::dict, "EE"},
    {"cond", Op::cond, "ee?"},  // test, then, else
    {"not", Op::not_, "e"},          {"neg", Op::neg, "e"},
    {"pos", Op::pos, "e"},           {"and", Op::and_, "ee"},
    {"or", Op::or_, "ee"},           {"add", Op::add, "ee"},
    {"sub", Op::sub, "ee"},          {"mul", Op::mul, "ee"},
    {"div", Op::div, "ee"},          {"floordiv", Op::floordiv, "ee"},
    {"mod", Op::mod, "ee"},          {"concat", Op::concat, "E"},
    {"compare", Op::compare, "enE"}, {"attr", Op::attr, "es"},
    {"item", Op::item, "ee"},        {"slice", Op::slice, "e???"},
    {"call", Op::call, "eEnE--"},  // callee, arguments, keywords, their values
    {"filter", Op::filter, "seE"},   {"test", Op::test, "seE"},
    {"map", Op::map, "eEe"},        // iterable, values of slots 1, 2, ...; body over slot 0, the item
    {"select", Op::select, "eEe"},  // the same
    {"fail", Op::fail, "s"},
};

constexpr std::string_view comparison_names[] = {"eq", "ne", "lt", "lteq", "gt", "gteq", "in", "notin"};

class Loader {
public:
    Program load(const json::Value& blob) {
        const std::int64_t version = blob.int_at("edgekit_chat_template");
        if (version != format_version) {
            throw Error(Status::unsupported, "the chat template has the format version " +
                                                 std::to_string(version) + ", this build reads version " +
                                                 std::to_string(format_version));
        }
        program_.body = load_all(blob.at("body"), statements);
        return std::move(program_);
    }

private:
    [[noreturn]] void invalid(const std::string& what) const {
        throw Error(Status::invalid_file, "the compiled chat template is invalid: " + what);
    }

    static Node sequence() {
        Node node;
        node.op = Op::sequence;
        return node;
    }

    template <std::size_t n>
    Node load_node(const json::Value& value, const Layout (&layouts)[n]) {
        const json::Array& fields = value.as_array("node");
        if (fields.size() < 2) invalid("a node has no name or no line");
        const std::string& name = fields[0].as_string("node");
        const auto layout =
            std::find_if(layouts, layouts + n, [&](const Layout& each) { return each.name == name; });
        if (layout == layouts + n) invalid("'" + name.substr(0, 40) + "' is not known where it stands");
        if (fields.size() != layout->fields.size() + 2)
            invalid("'" + name + "' has the wrong number of fields");
        Node node;
        node.op = layout->op;
        node.line = static_cast<std::uint32_t>(fields[1].as_int_in(0, 0x7fffffff, "line"));
        std::size_t n_texts = 0;
        for (std::size_t i = 0; i < layout->fields.size(); ++i) {
            const json::Value& field = fields[i + 2];
            switch (layout->fields[i]) {
                case 's':
                    if (n_texts++ > 0)
                        node.names.push_back(field.as_string(name));
                    else
                        node.text = field.as_string(name);
                    break;
                case 'n':
                    for (const json::Value& each : field.as_array(name))
                        node.names.push_back(each.as_string(name));
                    break;
                case 'f':
                    node.flag = field.as_bool(name);
                    break;
                case '-':
                    if (!field.is_null() && (!field.is_bool() || field.as_bool()))
                        throw Error(Status::unsupported, "the chat template uses '" + name +
                                                             "' in a way which this build does not have");
                    break;
                case 'i':
                    node.index = static_cast<std::uint32_t>(field.as_int_in(0, 1000, name));
                    break;
                case 'v':
                    if (field.is_array() || field.is_object())
                        invalid("a constant is neither a number, a string, a boolean nor null");
                    node.index = static_cast<std::uint32_t>(program_.constants.size());
                    program_.constants.push_back(field);
                    break;
                case 'e':
                    node.kids.push_back(load_node(field, expressions));
                    break;
                case '?':
                    node.kids.push_back(field.is_null() ? Node{} : load_node(field, expressions));
                    break;
                case 't':
                    node.kids.push_back(load_node(field, targets));
                    break;
                case 'E':
                    node.kids.push_back(load_all(field, expressions));
                    break;
                case 'T':
                    node.kids.push_back(load_all(field, targets));
                    break;
                case 'b':
                    node.kids.push_back(load_all(field, statements));
                    break;
                case 'B': {
                    Node blocks = sequence();
                    for (const json::Value& block : field.as_array(name))
                        blocks.kids.push_back(load_all(block, statements));
                    node.kids.push_back(std::move(blocks));
                    break;
                }
            }
        }
        finish(node, name);
        return node;
    }

    template <std::size_t n>
    Node load_all(const json::Value& value, const Layout (&layouts)[n]) {
        Node nodes = sequence();
        for (const json::Value& each : value.as_array("nodes"))
            nodes.kids.push_back(load_node(each, layouts));
        return nodes;
    }

    // What the interpreter takes for granted beyond the kinds of fields.
    void finish(Node& node, const std::string& name) {
        const auto check = [&](bool ok) {
            if (!ok) invalid("the fields of '" + name + "' do not fit each other");
        };
        const auto n_in = [&](std::size_t kid) { return node.kids[kid].kids.size(); };
        switch (node.op) {
            case Op::if_:
                check(n_in(1) == n_in(0) + 1);
                break;
            case Op::dict:
                check(n_in(0) == n_in(1));
                break;
            case Op::with:
                check(n_in(0) == n_in(1));
                break;
            case Op::call:
                check(node.names.size() == n_in(2));
                break;
            case Op::name:
                node.index = name_index(node.text);
                break;
            case Op::nsref:
                node.index = name_index(node.text);
                break;
            case Op::macro:
                node.index = name_index(node.text);
                check(n_in(0) <= node.names.size());
                for (const std::string& parameter : node.names)
                    node.name_indices.push_back(name_index(parameter));
                break;
            case Op::call_block:
                check(node.kids[0].op == Op::call && n_in(1) <= node.names.size());
                for (const std::string& parameter : node.names)
                    node.name_indices.push_back(name_index(parameter));
                break;
            case Op::compare:
                check(node.names.size() == n_in(1));
                for (const std::string& comparison : node.names) {
                    const auto found =
                        std::find(std::begin(comparison_names), std::end(comparison_names), comparison);
                    check(found != std::end(comparison_names));
                    node.comparisons.push_back(static_cast<Comparison>(found - std::begin(comparison_names)));
                }
                break;
            case Op::filter:
                node.filter = find_filter(node.text);
                if (!node.filter)
                    throw Error(Status::unsupported, "the chat template uses the filter '" +
                                                         node.text.substr(0, 40) +
                                                         "', which this build does not have");
                check(node.filter->n_arguments == n_in(1));
                break;
            case Op::test:
                node.test = find_test(node.text);
                if (!node.test)
                    throw Error(Status::unsupported, "the chat template uses the test '" +
                                                         node.text.substr(0, 40) +
                                                         "', which this build does not have");
                check(node.test->n_arguments == n_in(1));
                break;
            default:
                break;
        }
    }

    std::uint32_t name_index(const std::string& name) {
        const auto [place, is_new] =
            name_indices_.try_emplace(name, static_cast<std::uint32_t>(program_.names.size()));
        if (is_new) program_.names.push_back(name);
        return place->second;
    }

    Program program_;
    std::map<std::string, std::uint32_t> name_indices_;
};

}  // namespace

Program load_program(std::string_view blob) {
    return Loader().load(json::parse(blob, {.max_depth = max_nesting}));
}

}  // namespace edgekit::tmpl
