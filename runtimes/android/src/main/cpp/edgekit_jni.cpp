// io.github.edgekit.Native: edgekit.h as the JVM and Android see it. Glue only: a handle is the address of an
// object of edgekit.hpp, text crosses as UTF-8 bytes, and a failure becomes the exception that Native.failure
// makes of it.

#include <jni.h>

#include <algorithm>
#include <bit>
#include <edgekit/edgekit.hpp>
#include <limits>
#include <new>
#include <string>
#include <type_traits>

#define NATIVE(Result, name) extern "C" JNIEXPORT Result JNICALL Java_io_github_edgekit_Native_##name

namespace {

struct JavaClass {
    jclass native = nullptr;
    jmethodID failure = nullptr, text = nullptr, evicted = nullptr, done = nullptr;
} java;

// A Java exception is pending already: nothing is left to say.
struct Thrown {};

template <class Result>
Result unless_thrown(JNIEnv* env, Result result) {
    if (env->ExceptionCheck()) throw Thrown{};
    return result;
}

[[noreturn]] void refuse(const std::string& message) {
    edgekit_error error{};
    error.status = EDGEKIT_INVALID_ARGUMENT;
    message.copy(error.message, sizeof error.message - 1);
    throw edgekit::Error(error);
}

jbyteArray bytes(JNIEnv* env, std::string_view text) {
    const auto size = static_cast<jsize>(text.size());
    const jbyteArray array = unless_thrown(env, env->NewByteArray(size));
    env->SetByteArrayRegion(array, 0, size, reinterpret_cast<const jbyte*>(text.data()));
    return array;
}

std::string string(JNIEnv* env, jbyteArray array) {
    std::string text(static_cast<size_t>(env->GetArrayLength(array)), '\0');
    env->GetByteArrayRegion(array, 0, static_cast<jsize>(text.size()), reinterpret_cast<jbyte*>(text.data()));
    return text;
}

jintArray ints(JNIEnv* env, std::span<const int32_t> values) {
    const auto size = static_cast<jsize>(values.size());
    const jintArray array = unless_thrown(env, env->NewIntArray(size));
    env->SetIntArrayRegion(array, 0, size, values.data());
    return array;
}

std::vector<int32_t> ints(JNIEnv* env, jintArray array) {
    std::vector<int32_t> values(static_cast<size_t>(env->GetArrayLength(array)));
    env->GetIntArrayRegion(array, 0, static_cast<jsize>(values.size()), values.data());
    return values;
}

jlongArray longs(JNIEnv* env, const std::vector<jlong>& values) {
    const auto size = static_cast<jsize>(values.size());
    const jlongArray array = unless_thrown(env, env->NewLongArray(size));
    env->SetLongArrayRegion(array, 0, size, values.data());
    return array;
}

void raise(JNIEnv* env, edgekit_status status, const char* message, uint64_t needed_bytes) {
    try {
        const jbyteArray text = bytes(env, message);
        const jobject failure =
            unless_thrown(env, env->CallStaticObjectMethod(java.native, java.failure, jint{status}, text,
                                                           static_cast<jlong>(needed_bytes)));
        env->Throw(static_cast<jthrowable>(failure));
    } catch (const Thrown&) {
    }
}

// No C++ exception crosses into the JVM.
template <class Function>
auto guarded(JNIEnv* env, Function function) -> decltype(function()) {
    try {
        return function();
    } catch (const Thrown&) {
    } catch (const edgekit::Error& error) {
        raise(env, error.status(), error.what(), error.needed_bytes());
    } catch (const std::bad_alloc&) {
        raise(env, EDGEKIT_OUT_OF_MEMORY, "the system has not enough memory for this", 0);
    } catch (const std::exception& error) {
        raise(env, EDGEKIT_INTERNAL, error.what(), 0);
    }
    return decltype(function())();
}

// ---- options: the name in Kotlin and the member it sets. A value is a long: a whole number, or a double's
// bits.

template <class Value>
Value value_of(const char* name, jlong bits) {
    if constexpr (std::is_floating_point_v<Value>) {
        return static_cast<Value>(std::bit_cast<double>(bits));
    } else {
        if constexpr (sizeof(Value) < sizeof bits) {
            using Limits = std::numeric_limits<Value>;
            if (bits < jlong{Limits::min()} || bits > jlong{Limits::max()})
                refuse(std::string(name) + " is " + std::to_string(bits) + "; it lies between " +
                       std::to_string(Limits::min()) + " and " + std::to_string(Limits::max()));
        }
        return static_cast<Value>(bits);
    }
}

template <class Options>
struct Member {
    const char* name;
    void (*set)(Options&, const char* name, jlong bits);
};

#define MEMBER(Options, member)                                            \
    {#member, [](Options& options, const char* name, jlong bits) {         \
         options.member = value_of<decltype(Options::member)>(name, bits); \
     }}
#define ENUM_MEMBER(Options, member)                                                         \
    {#member, [](Options& options, const char* name, jlong bits) {                           \
         options.member = static_cast<decltype(Options::member)>(value_of<int>(name, bits)); \
     }}

const Member<edgekit_session_options> session_members[] = {
    MEMBER(edgekit_session_options, window),       MEMBER(edgekit_session_options, sinks),
    ENUM_MEMBER(edgekit_session_options, kv_type), ENUM_MEMBER(edgekit_session_options, on_full),
    MEMBER(edgekit_session_options, chunk),        MEMBER(edgekit_session_options, memory_budget_bytes),
};

const Member<edgekit_generate_options> generate_members[] = {
    MEMBER(edgekit_generate_options, prompt_flags),
    ENUM_MEMBER(edgekit_generate_options, prompt_mode),
    MEMBER(edgekit_generate_options, max_tokens),
    MEMBER(edgekit_generate_options, ignore_eos),
    MEMBER(edgekit_generate_options, seed),
    MEMBER(edgekit_generate_options, temperature),
    MEMBER(edgekit_generate_options, top_k),
    MEMBER(edgekit_generate_options, top_p),
    MEMBER(edgekit_generate_options, min_p),
    MEMBER(edgekit_generate_options, typical_p),
    MEMBER(edgekit_generate_options, repetition_penalty),
    MEMBER(edgekit_generate_options, presence_penalty),
    MEMBER(edgekit_generate_options, frequency_penalty),
    MEMBER(edgekit_generate_options, penalty_window),
    MEMBER(edgekit_generate_options, speculation),
};

template <class Options, size_t N>
void apply(JNIEnv* env, std::type_identity_t<Options>& options, const Member<Options> (&members)[N],
           jobjectArray names, jlongArray values) {
    for (jsize i = 0; i < env->GetArrayLength(names); ++i) {
        const auto key = static_cast<jbyteArray>(env->GetObjectArrayElement(names, i));
        const std::string name = string(env, key);
        env->DeleteLocalRef(key);
        jlong bits = 0;
        env->GetLongArrayRegion(values, i, 1, &bits);
        const auto found = std::ranges::find(members, name, &Member<Options>::name);
        if (found == std::end(members)) refuse("there is no option '" + name + "'");
        found->set(options, found->name, bits);
    }
}

jlongArray to_longs(JNIEnv* env, const edgekit_memory_plan& plan) {
    return longs(env, {jlong(plan.weight_bytes), jlong(plan.tokenizer_bytes), jlong(plan.cache_bytes),
                       jlong(plan.activation_bytes), jlong(plan.model_bytes), jlong(plan.total_bytes),
                       jlong{plan.window}, jlong{plan.sinks}, jlong{plan.chunk}, jlong{plan.kv_type}});
}

edgekit::SessionOptions session_options(JNIEnv* env, jobjectArray names, jlongArray values) {
    edgekit::SessionOptions options;
    apply(env, options, session_members, names, values);
    return options;
}

// ---- handles

edgekit::Model& model(jlong handle) { return *reinterpret_cast<edgekit::Model*>(handle); }

struct Conversation {
    edgekit::Session session;
    std::optional<edgekit::Generation> generation;  // while one runs
    std::optional<edgekit::Generation::Iterator> event;

    void begin(edgekit::Generation begun) {
        end();
        generation.emplace(std::move(begun));
    }
    void end() {
        event.reset();
        generation.reset();
    }
    const edgekit::Event& next() {
        if (!generation) refuse("nothing is being generated; call generate first");
        try {
            if (event)
                ++*event;
            else
                event = generation->begin();
        } catch (...) {
            end();
            throw;
        }
        return **event;
    }
};

Conversation& conversation(jlong handle) { return *reinterpret_cast<Conversation*>(handle); }

jobject to_java(JNIEnv* env, const edgekit::Event& event) {
    switch (event.kind()) {
        case EDGEKIT_EVENT_TEXT: {
            const jbyteArray text = bytes(env, event.text());
            return unless_thrown(
                env, env->CallStaticObjectMethod(java.native, java.text, text, ints(env, event.tokens())));
        }
        case EDGEKIT_EVENT_EVICTED:
            return unless_thrown(
                env, env->CallStaticObjectMethod(java.native, java.evicted, jlong(event->evicted_first),
                                                 jlong(event->evicted_count)));
        default:
            return unless_thrown(
                env, env->CallStaticObjectMethod(java.native, java.done, jint{event->finish},
                                                 jint(event->prompt_tokens), jint(event->cached_tokens),
                                                 jint(event->generated_tokens), jint(event->drafted_tokens),
                                                 jint(event->accepted_tokens), event->prefill_ms,
                                                 event->first_token_ms, event->decode_ms, jlong(event->seed),
                                                 jint(event->taken_back)));
    }
}

}  // namespace

extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
    JNIEnv* env = nullptr;
    if (vm->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
    const jclass native = env->FindClass("io/github/edgekit/Native");
    if (!native) return JNI_ERR;
    const std::string event = "Lio/github/edgekit/Event;";
    java.native = static_cast<jclass>(env->NewGlobalRef(native));
    const auto method = [&](const char* name, const std::string& signature) {
        return env->ExceptionCheck() ? nullptr : env->GetStaticMethodID(native, name, signature.c_str());
    };
    java.failure = method("failure", "(I[BJ)Ljava/lang/Throwable;");
    java.text = method("text", "([B[I)" + event);
    java.evicted = method("evicted", "(JJ)" + event);
    java.done = method("done", "(IIIIIIDDDJI)" + event);
    return env->ExceptionCheck() ? JNI_ERR : JNI_VERSION_1_6;
}

// ---- the library

NATIVE(jbyteArray, version)(JNIEnv* env, jclass) {
    return guarded(env, [&] { return bytes(env, edgekit_version()); });
}

NATIVE(jbyteArray, isas)(JNIEnv* env, jclass) {
    return guarded(env, [&] { return bytes(env, edgekit_isas()); });
}

// ---- models

NATIVE(jlong, openModel)
(JNIEnv* env, jclass, jbyteArray path, jint threads, jbyteArray isa, jboolean verify_hashes,
 jboolean in_memory) {
    return guarded(env, [&] {
        edgekit::ModelOptions options;
        options.n_threads = value_of<uint32_t>("threads", threads);
        const std::string name = isa ? string(env, isa) : "";
        options.isa = isa ? name.c_str() : nullptr;
        options.verify_hashes = verify_hashes;
        options.in_memory = in_memory;
        return reinterpret_cast<jlong>(new edgekit::Model(string(env, path), options));
    });
}

NATIVE(void, freeModel)(JNIEnv*, jclass, jlong handle) { delete &model(handle); }

NATIVE(jlongArray, modelNumbers)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] {
        const edgekit_model_info info = model(handle).info();
        return longs(env, {info.vocab_size, info.n_layers, info.d_model, info.context, info.has_tokenizer,
                           info.has_chat_template, jlong{info.n_threads}, jlong(info.file_bytes),
                           jlong(info.weight_bytes), jlong(info.n_parameters)});
    });
}

NATIVE(jobjectArray, modelTexts)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] {
        const edgekit_model_info info = model(handle).info();
        const edgekit_span texts[] = {info.isa, info.model_type, info.scheme, info.metadata};
        const jclass type = unless_thrown(env, env->FindClass("[B"));
        const jobjectArray array = unless_thrown(env, env->NewObjectArray(std::size(texts), type, nullptr));
        for (size_t i = 0; i < std::size(texts); ++i)
            env->SetObjectArrayElement(array, jsize(i), bytes(env, {texts[i].data, texts[i].size}));
        return array;
    });
}

NATIVE(jbyteArray, renderChat)(JNIEnv* env, jclass, jlong handle, jbyteArray context) {
    return guarded(env, [&] { return bytes(env, model(handle).render_chat(string(env, context))); });
}

NATIVE(jintArray, encodeChat)(JNIEnv* env, jclass, jlong handle, jbyteArray context) {
    return guarded(env, [&] { return ints(env, model(handle).encode_chat(string(env, context))); });
}

NATIVE(jlongArray, plan)
(JNIEnv* env, jclass, jlong handle, jobjectArray names, jlongArray values) {
    return guarded(env,
                   [&] { return to_longs(env, model(handle).plan(session_options(env, names, values))); });
}

NATIVE(jlongArray, canLoad)
(JNIEnv* env, jclass, jbyteArray path, jobjectArray names, jlongArray values) {
    return guarded(env, [&] {
        return to_longs(env, edgekit::can_load(string(env, path), session_options(env, names, values)));
    });
}

// ---- the tokenizer of a model

namespace {
edgekit::Tokenizer tokenizer(jlong handle) {
    auto tokenizer = model(handle).tokenizer();
    if (!tokenizer) refuse("the package has no tokenizer; convert its checkpoint again with one");
    return std::move(*tokenizer);
}
}  // namespace

NATIVE(jintArray, encode)(JNIEnv* env, jclass, jlong handle, jbyteArray text, jint flags) {
    return guarded(env,
                   [&] { return ints(env, tokenizer(handle).encode(string(env, text), uint32_t(flags))); });
}

NATIVE(jbyteArray, decode)(JNIEnv* env, jclass, jlong handle, jintArray ids, jboolean skip_special) {
    return guarded(env, [&] { return bytes(env, tokenizer(handle).decode(ints(env, ids), skip_special)); });
}

NATIVE(jbyteArray, tokenBytes)(JNIEnv* env, jclass, jlong handle, jint id) {
    return guarded(env, [&] { return bytes(env, tokenizer(handle).token_bytes(id)); });
}

NATIVE(jint, tokenToId)(JNIEnv* env, jclass, jlong handle, jbyteArray text) {
    return guarded(env, [&] { return jint{tokenizer(handle).token_to_id(string(env, text)).value_or(-1)}; });
}

NATIVE(jintArray, tokenizerInfo)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] {
        const edgekit_tokenizer_info info = tokenizer(handle).info();
        const int32_t values[] = {info.vocab_size, info.bos_id, info.eos_id, info.pad_id};
        return ints(env, values);
    });
}

// ---- sessions

NATIVE(jlong, createSession)
(JNIEnv* env, jclass, jlong handle, jobjectArray names, jlongArray values) {
    return guarded(env, [&] {
        return reinterpret_cast<jlong>(
            new Conversation{edgekit::Session(model(handle), session_options(env, names, values)),
                             std::nullopt, std::nullopt});
    });
}

NATIVE(void, freeSession)(JNIEnv*, jclass, jlong handle) { delete &conversation(handle); }

NATIVE(void, generate)
(JNIEnv* env, jclass, jlong handle, jbyteArray prompt, jbyteArray messages, jintArray prompt_ids,
 jobjectArray stops, jintArray stop_ids, jintArray bias_ids, jfloatArray bias_values, jobjectArray names,
 jlongArray values) {
    guarded(env, [&] {
        Conversation& c = conversation(handle);
        edgekit::GenerateOptions options = c.session.options();
        apply(env, options, generate_members, names, values);
        for (jsize i = 0; i < env->GetArrayLength(stops); ++i) {
            const auto stop = static_cast<jbyteArray>(env->GetObjectArrayElement(stops, i));
            options.stops.push_back(string(env, stop));
            env->DeleteLocalRef(stop);
        }
        options.stop_ids = ints(env, stop_ids);
        const std::vector<int32_t> ids = ints(env, bias_ids);
        std::vector<float> bias(ids.size());
        env->GetFloatArrayRegion(bias_values, 0, jsize(bias.size()), bias.data());
        for (size_t i = 0; i < ids.size(); ++i) options.logit_bias.emplace_back(ids[i], bias[i]);
        c.end();
        if (prompt)
            c.begin(c.session.generate(string(env, prompt), options));
        else if (messages)
            c.begin(c.session.chat(string(env, messages), options));
        else
            c.begin(c.session.generate(ints(env, prompt_ids), options));
    });
}

NATIVE(jobject, next)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] {
        Conversation& c = conversation(handle);
        const edgekit::Event& event = c.next();
        const jobject object = to_java(env, event);
        if (event.done()) c.end();
        return object;
    });
}

NATIVE(void, endGeneration)(JNIEnv*, jclass, jlong handle) { conversation(handle).end(); }

NATIVE(void, cancel)(JNIEnv*, jclass, jlong handle) { conversation(handle).session.cancel(); }

NATIVE(jfloatArray, forward)(JNIEnv* env, jclass, jlong handle, jintArray ids, jboolean all_logits) {
    return guarded(env, [&] {
        const std::vector<float> logits = conversation(handle).session.forward(ints(env, ids), all_logits);
        const auto size = static_cast<jsize>(logits.size());
        const jfloatArray array = unless_thrown(env, env->NewFloatArray(size));
        env->SetFloatArrayRegion(array, 0, size, logits.data());
        return array;
    });
}

NATIVE(jlong, position)(JNIEnv*, jclass, jlong handle) {
    return jlong(conversation(handle).session.position());
}

NATIVE(jlongArray, sessionPlan)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] { return to_longs(env, conversation(handle).session.plan()); });
}

NATIVE(void, reset)(JNIEnv* env, jclass, jlong handle) {
    guarded(env, [&] { conversation(handle).session.reset(); });
}

NATIVE(void, rewind)(JNIEnv* env, jclass, jlong handle, jlong count) {
    guarded(env, [&] {
        if (count < 0) refuse("a session cannot be taken back by " + std::to_string(count) + " tokens");
        conversation(handle).session.rewind(uint64_t(count));
    });
}

NATIVE(jlong, fork)(JNIEnv* env, jclass, jlong handle) {
    return guarded(env, [&] {
        return reinterpret_cast<jlong>(
            new Conversation{conversation(handle).session.fork(), std::nullopt, std::nullopt});
    });
}

NATIVE(void, save)(JNIEnv* env, jclass, jlong handle, jbyteArray path) {
    guarded(env, [&] { conversation(handle).session.save(string(env, path)); });
}

NATIVE(void, restore)(JNIEnv* env, jclass, jlong handle, jbyteArray path) {
    guarded(env, [&] { conversation(handle).session.restore(string(env, path)); });
}
