#include "text/template/interpreter.h"

#include <algorithm>

#include "error.h"
#include "text/template/clock.h"
#include "text/template/object.h"
#include "text/template/operator.h"
#include "text/template/program.h"
#include "text/template/python_text.h"

namespace edgekit::tmpl {

// The variables of a template, a loop's pass, a macro's call, ...; what is not here is looked up in the
// parent.
struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<std::uint32_t, Value>> variables;

    Value* find(std::uint32_t name) {
        for (auto& [key, value] : variables) {
            if (key == name) return &value;
        }
        return nullptr;
    }
    void set(std::uint32_t name, Value value) {
        if (Value* found = find(name))
            *found = std::move(value);
        else
            variables.emplace_back(name, std::move(value));
    }
};

using ScopePtr = std::shared_ptr<Scope>;

struct Macro {
    const Node* node;
    const Node* defaults;
    const Node* body;
    ScopePtr scope;  // where it was defined
};

namespace {

// raise_exception(): the template's own message.
struct Raised : Error {
    explicit Raised(const std::string& message) : Error(Status::template_error, message) {}
};

enum class Flow { next, break_, continue_ };

constexpr int max_recursion = 400;  // of nested nodes, macros included: some 250 KB of stack

// The names that every template finds; a variable of the context may hide them.
constexpr std::pair<std::string_view, Function> globals[] = {
    {"range", Function::range},
    {"dict", Function::dict},
    {"namespace", Function::make_namespace},
    {"raise_exception", Function::raise_exception},
    {"strftime_now", Function::strftime_now},
};

// Templates make special tokens of these ('<|' + message.role + '|>'); another role is text from the caller.
constexpr std::string_view roles[] = {"assistant", "developer",   "documents", "function", "ipython",
                                      "model",     "observation", "system",    "tool",     "user"};

class Interpreter {
public:
    Interpreter(const Program& program, const json::Value& context, const json::Value& package,
                const Limits& limits)
        : program_(program),
          context_(context),
          package_(package),
          heap_(limits),
          constants_(program.constants.size()),
          root_(std::make_shared<Scope>()) {}

    ~Interpreter() {
        // Namespaces and the scopes of macros may hold each other.
        for (const auto& name_space : namespaces_) name_space->attributes.clear();
        for (const ScopePtr& scope : captured_) scope->variables.clear();
    }
    Interpreter(const Interpreter&) = delete;
    Interpreter& operator=(const Interpreter&) = delete;

    MarkedText run() {
        out_ = &text_;
        try {
            run_block(program_.body, root_);
        } catch (const Raised& raised) {
            throw Error(Status::template_error, raised.what());
        } catch (const Error& error) {
            if (error.status() != Status::template_error) throw;
            throw Error(Status::template_error,
                        "chat template, line " + std::to_string(line_) + ": " + error.what());
        }
        return std::move(text_);
    }

private:
    // ---- statements

    class Depth {
    public:
        explicit Depth(int& depth) : depth_(depth) {
            if (++depth_ > max_recursion) {
                --depth_;
                fail("the template recurses deeper than " + std::to_string(max_recursion) + " levels");
            }
        }
        ~Depth() { --depth_; }
        Depth(const Depth&) = delete;
        Depth& operator=(const Depth&) = delete;

    private:
        int& depth_;
    };

    Flow run_block(const Node& block, const ScopePtr& scope) {
        for (const Node& statement : block.kids) {
            const Flow flow = run(statement, scope);
            if (flow != Flow::next) return flow;
        }
        return Flow::next;
    }

    Flow run(const Node& node, const ScopePtr& scope) {
        const Depth depth(depth_);
        heap_.step();
        line_ = node.line;
        switch (node.op) {
            case Op::text:
                print(MarkedText(node.text));
                break;
            case Op::print:
                print(to_text(heap_, evaluate(node.kids[0], scope)));
                break;
            case Op::if_:
                return run_if(node, scope);
            case Op::for_:
                run_for(node, scope);
                break;
            case Op::break_:
                return Flow::break_;
            case Op::continue_:
                return Flow::continue_;
            case Op::set:
                assign(node.kids[0], scope, evaluate(node.kids[1], scope));
                break;
            case Op::set_block:
                assign(node.kids[0], scope,
                       filtered(node.kids[2], scope, captured(node.kids[1], inner(scope))));
                break;
            case Op::filter_block: {
                const ScopePtr body_scope = inner(scope);
                const Value text = captured(node.kids[0], body_scope);
                print(to_text(heap_, filtered(node.kids[1], body_scope, text)));
                break;
            }
            case Op::with:
                return run_with(node, scope);
            case Op::scope:
                print(to_text(heap_, captured(node.kids[0], inner(scope))));
                break;
            case Op::macro:
                scope->set(node.index, make_macro(node, node.kids[0], node.kids[1], scope));
                break;
            case Op::call_block:
                run_call_block(node, scope);
                break;
            default:
                fail("a statement is missing");
        }
        return Flow::next;
    }

    void print(const MarkedText& text) {
        heap_.handle(text.bytes.size());
        heap_.reserve(out_->footprint() + text.footprint());
        out_->append(text);
    }

    Flow run_if(const Node& node, const ScopePtr& scope) {
        const std::vector<Node>& tests = node.kids[0].kids;
        std::size_t chosen = 0;
        while (chosen < tests.size() && !truth(heap_, evaluate(tests[chosen], scope))) ++chosen;
        return run_block(node.kids[1].kids[chosen], scope);
    }

    Flow run_with(const Node& node, const ScopePtr& scope) {
        const ScopePtr with = inner(scope);
        for (std::size_t i = 0; i < node.kids[0].kids.size(); ++i) {
            assign(node.kids[0].kids[i], with, evaluate(node.kids[1].kids[i], scope));
        }
        return run_block(node.kids[2], with);
    }

    void run_for(const Node& node, const ScopePtr& scope) {
        const Value iterable = evaluate(node.kids[1], scope);
        const Node &target = node.kids[0], &body = node.kids[2], &otherwise = node.kids[3],
                   &test = node.kids[4];
        const auto loop = std::make_shared<Loop>();
        loop->iterable = iterable;
        heap_.check_nesting(loop);
        loop->next = iterate(heap_, iterable);
        if (test.op != Op::none) {
            loop->next = [this, &target, &test, scope, next = loop->next](Value& item) {
                while (next(item)) {
                    const ScopePtr test_scope = inner(scope);
                    assign(target, test_scope, item);
                    if (truth(heap_, evaluate(test, test_scope))) return true;
                }
                return false;
            };
            loop->iterable = heap_.iterator(loop->next, iterable);  // its length is not known
            keep_until_end(scope);
        }
        bool any_completed = false;
        while (loop->advance()) {
            heap_.step();
            const ScopePtr pass = inner(scope);
            assign(target, pass, *loop->current);
            pass->set(loop_name_, loop);
            const Flow flow = run_block(body, pass);
            if (flow == Flow::break_) break;
            // jinja2 runs the else branch unless one pass came to its end.
            if (flow == Flow::next) any_completed = true;
        }
        if (!any_completed) run_block(otherwise, inner(scope));
    }

    void run_call_block(const Node& node, const ScopePtr& scope) {
        const Node& call_node = node.kids[0];
        const Value callee = evaluate(call_node.kids[0], scope);
        Arguments arguments = evaluate_arguments(call_node, scope);
        arguments.named.emplace_back("caller", make_macro(node, node.kids[1], node.kids[2], scope));
        print(to_text(heap_, call(callee, arguments)));
    }

    Value captured(const Node& block, const ScopePtr& scope) {
        MarkedText text;
        MarkedText* outer = std::exchange(out_, &text);
        try {
            run_block(block, scope);
        } catch (...) {
            out_ = outer;
            throw;
        }
        out_ = outer;
        return heap_.text(std::move(text));
    }

    // A filter over slot 0.
    Value filtered(const Node& filter, const ScopePtr& scope, Value text) {
        if (filter.op == Op::none) return text;
        const Values slots{std::move(text)};
        return evaluate_with(slots, filter, scope);
    }

    void assign(const Node& target, const ScopePtr& scope, const Value& value) {
        line_ = target.line;
        if (target.op == Op::name) {
            scope->set(target.index, value);
        } else if (target.op == Op::nsref) {
            const Value object = find(target.index, scope);
            Namespace* name_space = object.name_space();
            if (!name_space) fail("cannot assign attribute on non-namespace object");
            set_attribute(*name_space, target.names[0], value);
        } else {
            const Values items = to_list(heap_, value);
            const std::vector<Node>& targets = target.kids[0].kids;
            if (items.size() != targets.size()) {
                fail("cannot unpack " + std::to_string(items.size()) + " values to " +
                     std::to_string(targets.size()) + " names");
            }
            for (std::size_t i = 0; i < items.size(); ++i) assign(targets[i], scope, items[i]);
        }
    }

    void set_attribute(Namespace& name_space, std::string_view name, const Value& value) {
        if (name.starts_with('_'))
            fail("a namespace cannot store '" + std::string(name) + "': its name starts with an underscore");
        if (!name_space.find(name)) heap_.keep(name.size() + sizeof(Value));
        name_space.set(name, value);
    }

    // ---- variables

    static ScopePtr inner(const ScopePtr& scope) { return std::make_shared<Scope>(Scope{scope, {}}); }

    Value find(std::uint32_t name, const ScopePtr& scope) {
        for (Scope* at = scope.get(); at; at = at->parent.get()) {
            if (const Value* found = at->find(name)) return *found;
        }
        return from_context(name);
    }

    Value from_context(std::uint32_t index) {
        const std::string& name = program_.names[index];
        if (const Value* found = loaded_.find(index)) return *found;
        if (const json::Value* value = context_.find(name)) {
            loaded_.set(index,
                        name == "messages" ? messages_of(*value) : heap_.from_json(*value, Origin::caller));
            return *loaded_.find(index);
        }
        if (const json::Value* value = package_.find(name)) {
            loaded_.set(index, heap_.from_json(*value, Origin::own));
            return *loaded_.find(index);
        }
        for (const auto& [global, function] : globals) {
            if (global == name) return function;
        }
        // Transformers always passes these.
        if (name == "tools" || name == "documents") return None{};
        if (name == "add_generation_prompt") return false;
        return Heap::undefined("'" + name + "' is undefined");
    }

    Value messages_of(const json::Value& messages) {
        if (!messages.is_array()) return heap_.from_json(messages, Origin::turn);
        Values values;
        Origin origin = Origin::caller;
        for (const json::Value& message : messages.as_array()) {
            const json::Value* role = message.is_object() ? message.find("role") : nullptr;
            const std::string_view name = role && role->is_string() ? role->as_string() : std::string_view();
            if (name != "system" && name != "developer") origin = Origin::turn;
            values.push_back(message_of(with_reasoning_aliases(message), origin));
        }
        return heap_.list(std::move(values));
    }

    Value message_of(const json::Value& message, Origin origin) {
        if (!message.is_object()) return heap_.from_json(message, origin);
        std::vector<std::pair<Value, Value>> items;
        for (const auto& [key, value] : message.as_object()) {
            const bool is_role = key == "role" && value.is_string() &&
                                 std::ranges::find(roles, value.as_string()) != std::end(roles);
            items.emplace_back(heap_.text(MarkedText(key, origin)),
                               heap_.from_json(value, is_role ? Origin::own : origin));
        }
        return heap_.dict(std::move(items));
    }

    // A message's reasoning goes by three names; templates read one of them. As Transformers, each is given
    // what any has.
    static json::Value with_reasoning_aliases(const json::Value& message) {
        if (!message.is_object()) return message;
        for (const std::string_view key : {"reasoning_content", "thinking", "reasoning"}) {
            const json::Value* reasoning = message.find(key);
            if (!reasoning || reasoning->is_null()) continue;
            std::vector<json::Member> members{{"thinking", *reasoning}};
            members.insert(members.end(), message.as_object().begin(), message.as_object().end());
            members.push_back({"reasoning_content", *reasoning});
            return json::Object(std::move(members));
        }
        return message;
    }

    // For a scope that one of its own values holds: they would keep each other alive.
    void keep_until_end(const ScopePtr& scope) {
        if (!captured_.empty() && captured_.back() == scope) return;
        heap_.keep(sizeof(Scope));
        captured_.push_back(scope);
    }

    Value make_macro(const Node& node, const Node& defaults, const Node& body, const ScopePtr& scope) {
        keep_until_end(scope);
        return std::make_shared<const Macro>(Macro{&node, &defaults, &body, scope});
    }

    // ---- expressions

    Value evaluate(const Node& node, const ScopePtr& scope) {
        const Depth depth(depth_);
        heap_.step();
        line_ = node.line;
        switch (node.op) {
            case Op::name:
                return find(node.index, scope);
            case Op::constant:
                return constant(node.index);
            case Op::slot:
                if (!slots_ || node.index >= slots_->size()) fail("a slot is empty");
                return (*slots_)[node.index];
            case Op::list:
                return heap_.list(evaluate_all(node.kids[0], scope));
            case Op::tuple:
                return heap_.tuple(evaluate_all(node.kids[0], scope));
            case Op::dict:
                return evaluate_dict(node, scope);
            case Op::cond:
                return evaluate_cond(node, scope);
            case Op::not_:
                return !truth(heap_, evaluate(node.kids[0], scope));
            case Op::and_:
            case Op::or_:
                return evaluate_logic(node, scope);
            case Op::neg:
            case Op::pos:
            case Op::add:
            case Op::sub:
            case Op::mul:
            case Op::div:
            case Op::floordiv:
            case Op::mod:
                return evaluate_operator(node, scope);
            case Op::concat:
                return evaluate_concat(node, scope);
            case Op::compare:
                return evaluate_compare(node, scope);
            case Op::attr:
                return attribute(heap_, evaluate(node.kids[0], scope), node.text);
            case Op::item:
                return evaluate_item(node, scope);
            case Op::slice:
                return evaluate_slice(node, scope);
            case Op::call:
                return evaluate_call(node, scope);
            case Op::filter:
                return evaluate_filter(node, scope);
            case Op::test:
                return evaluate_test(node, scope);
            case Op::map:
                return evaluate_each(node, scope, true);
            case Op::select:
                return evaluate_each(node, scope, false);
            case Op::fail:
                fail(node.text);
            default:
                fail("an expression is missing");
        }
    }

    const Value& constant(std::uint32_t index) {
        std::optional<Value>& value = constants_[index];
        if (!value) value = heap_.from_json(program_.constants[index], Origin::own);
        return *value;
    }

    Values evaluate_all(const Node& nodes, const ScopePtr& scope) {
        Values values;
        for (const Node& node : nodes.kids) values.push_back(evaluate(node, scope));
        return values;
    }

    Value evaluate_dict(const Node& node, const ScopePtr& scope) {
        std::vector<std::pair<Value, Value>> items;
        for (std::size_t i = 0; i < node.kids[0].kids.size(); ++i) {
            Value key = evaluate(node.kids[0].kids[i], scope);
            items.emplace_back(std::move(key), evaluate(node.kids[1].kids[i], scope));
        }
        return heap_.dict(std::move(items));
    }

    Value evaluate_cond(const Node& node, const ScopePtr& scope) {
        if (truth(heap_, evaluate(node.kids[0], scope))) return evaluate(node.kids[1], scope);
        if (node.kids[2].op != Op::none) return evaluate(node.kids[2], scope);
        return Heap::undefined(
            "the inline if-expression evaluated to false and no else section was defined.");
    }

    Value evaluate_logic(const Node& node, const ScopePtr& scope) {
        Value left = evaluate(node.kids[0], scope);
        return truth(heap_, left) == (node.op == Op::or_) ? left : evaluate(node.kids[1], scope);
    }

    Value evaluate_operator(const Node& node, const ScopePtr& scope) {
        const Value left = evaluate(node.kids[0], scope);
        if (node.op == Op::neg) return negate(heap_, left);
        if (node.op == Op::pos) return positive(heap_, left);
        const Value right = evaluate(node.kids[1], scope);
        line_ = node.line;
        switch (node.op) {
            case Op::add:
                return add(heap_, left, right);
            case Op::sub:
                return subtract(heap_, left, right);
            case Op::mul:
                return multiply(heap_, left, right);
            case Op::div:
                return divide(heap_, left, right);
            case Op::floordiv:
                return floor_divide(heap_, left, right);
            default:
                return modulo(heap_, left, right);
        }
    }

    Value evaluate_concat(const Node& node, const ScopePtr& scope) {
        MarkedText text;
        for (const Node& part : node.kids[0].kids) {
            text.append(to_text(heap_, evaluate(part, scope)));
            heap_.reserve(text.footprint());
        }
        return heap_.text(std::move(text));
    }

    Value evaluate_compare(const Node& node, const ScopePtr& scope) {
        Value left = evaluate(node.kids[0], scope);
        for (std::size_t i = 0; i < node.comparisons.size(); ++i) {
            Value right = evaluate(node.kids[1].kids[i], scope);
            if (!compares(node.comparisons[i], left, right)) return false;
            left = std::move(right);
        }
        return true;
    }

    bool compares(Comparison comparison, const Value& left, const Value& right) {
        switch (comparison) {
            case Comparison::eq:
                return equal(heap_, left, right);
            case Comparison::ne:
                return !equal(heap_, left, right);
            case Comparison::lt:
                return compare(heap_, left, right, "<") == -1;
            case Comparison::le:
                return compare(heap_, left, right, "<=").value_or(1) <= 0;
            case Comparison::gt:
                return compare(heap_, left, right, ">") == 1;
            case Comparison::ge:
                return compare(heap_, left, right, ">=").value_or(-1) >= 0;
            case Comparison::in:
                return contains(heap_, right, left);
            case Comparison::not_in:
                return !contains(heap_, right, left);
        }
        return false;
    }

    Value evaluate_item(const Node& node, const ScopePtr& scope) {
        const Value object = evaluate(node.kids[0], scope);
        return item(heap_, object, evaluate(node.kids[1], scope));
    }

    Value evaluate_slice(const Node& node, const ScopePtr& scope) {
        const Value object = evaluate(node.kids[0], scope);
        Value bounds[3] = {None{}, None{}, None{}};
        for (std::size_t i = 0; i < 3; ++i) {
            if (node.kids[i + 1].op != Op::none) bounds[i] = evaluate(node.kids[i + 1], scope);
        }
        return slice(heap_, object, bounds[0], bounds[1], bounds[2]);
    }

    Value evaluate_call(const Node& node, const ScopePtr& scope) {
        const Value callee = evaluate(node.kids[0], scope);
        const Arguments arguments = evaluate_arguments(node, scope);
        line_ = node.line;
        return call(callee, arguments);
    }

    Arguments evaluate_arguments(const Node& node, const ScopePtr& scope) {
        Arguments arguments{evaluate_all(node.kids[1], scope), {}};
        for (std::size_t i = 0; i < node.names.size(); ++i) {
            arguments.named.emplace_back(node.names[i], evaluate(node.kids[2].kids[i], scope));
        }
        return arguments;
    }

    Value evaluate_filter(const Node& node, const ScopePtr& scope) {
        const Value value = evaluate(node.kids[0], scope);
        const Values arguments = evaluate_all(node.kids[1], scope);
        line_ = node.line;
        return node.filter->apply(heap_, value, arguments);
    }

    Value evaluate_test(const Node& node, const ScopePtr& scope) {
        const Value value = evaluate(node.kids[0], scope);
        const Values arguments = evaluate_all(node.kids[1], scope);
        line_ = node.line;
        return node.test->apply(heap_, value, arguments);
    }

    Value evaluate_with(const Values& slots, const Node& node, const ScopePtr& scope) {
        const Values* outer = std::exchange(slots_, &slots);
        try {
            Value value = evaluate(node, scope);
            slots_ = outer;
            return value;
        } catch (...) {
            slots_ = outer;
            throw;
        }
    }

    // map, select and their like: a generator.
    Value evaluate_each(const Node& node, const ScopePtr& scope, bool map) {
        const Value iterable = evaluate(node.kids[0], scope);
        Values slots = evaluate_all(node.kids[1], scope);
        slots.insert(slots.begin(), Value());
        const Node& body = node.kids[2];
        const Value sources = heap_.list({iterable, heap_.list(slots)});
        auto next = [this, &body, iterable, map, slots,
                     source = std::function<bool(Value&)>()](Value& out) mutable {
            const Depth depth(depth_);
            if (!source && !truth(heap_, iterable)) return false;
            if (!source) source = iterate(heap_, iterable);
            while (source(slots[0])) {
                const Value result = evaluate_with(slots, body, nowhere_);
                if (!map && !truth(heap_, result)) continue;
                out = map ? result : slots[0];
                return true;
            }
            return false;
        };
        return heap_.iterator(std::move(next), sources);
    }

    // ---- calls

    Value call(const Value& callee, const Arguments& arguments) {
        const Depth depth(depth_);
        if (callee.is_undefined()) fail_undefined(callee);
        if (const Method* method = callee.method()) return call_method(heap_, *method, arguments);
        if (const Macro* macro = callee.macro()) return call_macro(*macro, arguments);
        if (const Function* function = callee.get<Function>()) return call_function(*function, arguments);
        fail("'" + std::string(type_name(callee)) + "' object is not callable");
    }

    Value call_macro(const Macro& macro, const Arguments& arguments) {
        const Node& node = *macro.node;
        const std::string name = node.op == Op::macro ? node.text : "caller";
        std::vector<std::pair<std::string, Value>> named = arguments.named;
        const auto take_named = [&](std::string_view key) -> std::optional<Value> {
            const auto found =
                std::find_if(named.begin(), named.end(), [&](const auto& each) { return each.first == key; });
            if (found == named.end()) return std::nullopt;
            Value value = found->second;
            named.erase(found);
            return value;
        };
        const std::size_t n = node.names.size();
        const ScopePtr scope = inner(macro.scope);
        std::vector<std::optional<Value>> values(n);
        for (std::size_t i = 0; i < n; ++i) {
            values[i] = i < arguments.positional.size() ? std::optional(arguments.positional[i])
                                                        : take_named(node.names[i]);
        }
        if (node.flag)
            scope->set(caller_name_, take_named("caller").value_or(Heap::undefined("No caller defined")));
        if (!named.empty()) fail("macro '" + name + "' takes no keyword argument '" + named[0].first + "'");
        if (arguments.positional.size() > n)
            fail("macro '" + name + "' takes not more than " + std::to_string(n) + " argument(s)");
        for (std::size_t i = 0; i < n; ++i) {
            if (values[i]) scope->set(node.name_indices[i], *values[i]);
        }
        const std::vector<Node>& defaults = macro.defaults->kids;
        for (std::size_t i = 0; i < n; ++i) {
            if (values[i]) continue;
            const std::size_t first_default = n - defaults.size();
            scope->set(node.name_indices[i],
                       i >= first_default
                           ? evaluate(defaults[i - first_default], scope)
                           : Heap::undefined("parameter '" + node.names[i] + "' was not provided"));
        }
        return captured(*macro.body, scope);
    }

    Value call_function(Function function, const Arguments& arguments) {
        const Values& positional = arguments.positional;
        const auto expect = [&](std::string_view name, std::size_t least, std::size_t most,
                                bool keywords = false) {
            if (positional.size() < least || positional.size() > most) {
                fail(std::string(name) + "() takes from " + std::to_string(least) + " to " +
                     std::to_string(most) + " arguments, not " + std::to_string(positional.size()));
            }
            if (!keywords && !arguments.named.empty())
                fail(std::string(name) + "() has no keyword argument '" + arguments.named[0].first + "'");
        };
        // The argument that may come by position or by its name.
        const auto only = [&](std::string_view name, std::string_view parameter) {
            expect(name, 0, 1, true);
            if (positional.size() + arguments.named.size() != 1 ||
                (positional.empty() && arguments.named[0].first != parameter)) {
                fail(std::string(name) + "() takes one argument, '" + std::string(parameter) + "'");
            }
            return positional.empty() ? arguments.named[0].second : positional[0];
        };
        switch (function) {
            case Function::range:
                expect("range", 1, 3);
                return make_range(positional);
            case Function::dict:
                expect("dict", 0, 1, true);
                return make_dict(heap_, arguments);
            case Function::make_namespace: {
                expect("namespace", 0, 1, true);
                const Value attributes = make_dict(heap_, arguments);
                heap_.keep(sizeof(Namespace));
                namespaces_.push_back(std::make_unique<Namespace>());
                for (const auto& [key, value] : attributes.dict()->items) {
                    set_attribute(*namespaces_.back(), expect_text(key, "a name in a namespace").bytes,
                                  value);
                }
                return namespaces_.back().get();
            }
            case Function::raise_exception:
                throw Raised(to_text(heap_, only("raise_exception", "message")).bytes);
            case Function::strftime_now: {
                const Value format = only("strftime_now", "format");
                const json::Value* now = context_.find("now");
                return heap_.text(strftime_now(
                    expect_text(format, "the format of strftime_now").bytes,
                    now ? std::optional<std::string_view>(now->as_string("now")) : std::nullopt));
            }
        }
        fail("an unknown function is called");
    }

    std::uint32_t name_index(std::string_view name) const {
        const auto found = std::find(program_.names.begin(), program_.names.end(), name);
        return static_cast<std::uint32_t>(found - program_.names.begin());
    }

    const Program& program_;
    const json::Value &context_, &package_;
    Heap heap_;  // before every value: it outlives them
    std::vector<std::optional<Value>> constants_;
    Scope loaded_;  // variables of the context
    ScopePtr root_;
    const ScopePtr nowhere_ = std::make_shared<Scope>();  // of expressions over slots alone
    std::vector<std::unique_ptr<Namespace>> namespaces_;
    std::vector<ScopePtr> captured_;  // by macros
    MarkedText text_;
    MarkedText* out_ = nullptr;  // what is printed goes here: `text_`, or what a block captures
    const Values* slots_ = nullptr;
    int depth_ = 0;
    std::uint32_t line_ = 0;
    const std::uint32_t loop_name_ = name_index("loop"), caller_name_ = name_index("caller");
};

}  // namespace

MarkedText interpret(const Program& program, const json::Value& context, const json::Value& package,
                     const Limits& limits) {
    return Interpreter(program, context, package, limits).run();
}

}  // namespace edgekit::tmpl
