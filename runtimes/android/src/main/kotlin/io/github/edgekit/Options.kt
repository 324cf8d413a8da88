package io.github.edgekit

// An option that is null is left to the engine; edgekit.h says what each means and what its default is.

class ModelOptions {
    /** Null: chosen by the engine. */
    var threads: Int? = null

    /** An instruction set of [Edgekit.isas] instead of the best. */
    var isa: String? = null

    /** Reads the whole file and checks its SHA-256 sums before use. */
    var verifyHashes: Boolean = false

    /** Reads the file into memory instead of mapping it, so that it may change while the model is used. */
    var inMemory: Boolean = false
}

/** How keys and values are stored. */
enum class KvType { AUTO, F32, F16, INT8, INT4 }

/** What happens when the cache is full. */
enum class OnFull {
    /** The oldest tokens after the sinks leave, and an [Event.Evicted] tells. */
    EVICT,

    /** The generation ends with [Finish.CONTEXT_FULL]. */
    STOP,

    /** [EdgekitException.ContextFull]. */
    ERROR,
}

class SessionOptions {
    /** Recent positions kept. */
    var window: Int? = null

    /** First positions kept for ever; null: 4, of a conversation its system prompt too. */
    var sinks: Int? = null
    var kv: KvType? = null
    var onFull: OnFull? = null

    /** Bytes, for everything a session allocates; window and kv are chosen to fit. */
    var memoryBudget: Long? = null

    /** Tokens of a prompt that are computed at once. */
    var chunk: Int? = null

    internal fun values() = OptionValues(
        "window" to window?.toLong(),
        "sinks" to sinks?.toLong(),
        "kv_type" to kv?.ordinal?.toLong(),
        "on_full" to onFull?.ordinal?.toLong(),
        "memory_budget_bytes" to memoryBudget,
        "chunk" to chunk?.toLong(),
    )
}

class GenerateOptions {
    /** Null: as many as the session holds; [ENDLESS]. */
    var maxTokens: Int? = null

    /** All its bits count. Null: a fresh one each time, which [Event.Done] tells. */
    var seed: Long? = null

    // Sampling: null is what the package's makers advise.

    /** 0 always takes the likeliest token. */
    var temperature: Float? = null
    var topK: Int? = null
    var topP: Float? = null
    var minP: Float? = null
    var typicalP: Float? = null
    var repetitionPenalty: Float? = null
    var presencePenalty: Float? = null
    var frequencyPenalty: Float? = null

    /** Last tokens that count as seen for the penalties. */
    var penaltyWindow: Int? = null
    var ignoreEos: Boolean? = null

    /** The text ends before the first of these that appears. */
    var stop: List<String> = emptyList()

    /** Token ids that end the text. */
    var stopIds: List<Int> = emptyList()

    /** Added to the logits of these token ids; negative infinity forbids a token. */
    var logitBias: Map<Int, Float> = emptyMap()

    /** The prompt follows what is in the cache; else it is the whole text so far, and what is cached is not computed again. */
    var append: Boolean = false

    /** Adds what the tokenizer adds to a text (BOS …). */
    var addSpecialTokens: Boolean = true

    /** Recognises special tokens written in a text. In messages they never are. */
    var parseSpecial: Boolean = true

    /** Draft length of prompt lookup, at most 7; 0: off. */
    var speculation: Int? = null

    /** For a conversation: the tools that the template tells the model of, as JSON (maps, lists, strings, …). */
    var tools: List<Map<String, Any?>>? = null

    /** For a conversation: what else its template reads, such as `enable_thinking`. */
    var templateVariables: Map<String, Any?> = emptyMap()

    internal fun values() = OptionValues(
        "max_tokens" to maxTokens?.toLong(),
        "seed" to seed,
        "temperature" to bits(temperature),
        "top_k" to topK?.toLong(),
        "top_p" to bits(topP),
        "min_p" to bits(minP),
        "typical_p" to bits(typicalP),
        "repetition_penalty" to bits(repetitionPenalty),
        "presence_penalty" to bits(presencePenalty),
        "frequency_penalty" to bits(frequencyPenalty),
        "penalty_window" to penaltyWindow?.toLong(),
        "ignore_eos" to ignoreEos?.let { if (it) 1L else 0L },
        "prompt_flags" to Native.flags(addSpecialTokens, parseSpecial).toLong(),
        "prompt_mode" to if (append) 1L else 0L,
        "speculation" to speculation?.toLong(),
    )

    private fun bits(value: Float?): Long? = value?.toDouble()?.toRawBits()

    companion object {
        /** As [maxTokens]: until the model ends its text, or the generation is cancelled. */
        const val ENDLESS: Int = Int.MAX_VALUE
    }
}

/** Options as they cross into C++: names, and whole numbers or a double's bits. */
internal class OptionValues(vararg all: Pair<String, Long?>) {
    private val given = all.filter { it.second != null }
    val names: Array<ByteArray> = given.map { it.first.encodeToByteArray() }.toTypedArray()
    val values: LongArray = LongArray(given.size) { given[it].second!! }
}
