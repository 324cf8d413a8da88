package io.github.edgekit

import java.io.File

/**
 * A `.edge` package, mapped into memory: heavy, cheap to open, and shareable between threads.
 *
 *     Model.open(file).use { model ->
 *         model.session().use { session -> session.generate("Once upon a time").collect { … } }
 *     }
 *
 * Sessions may outlive their model.
 */
class Model private constructor(pointer: Long) : AutoCloseable {
    private val handle = Handle(this, "model", pointer, Native::freeModel)

    val info: ModelInfo = handle.use { ModelInfo.of(Native.modelNumbers(it), Native.modelTexts(it)) }

    /** Null when the package has none. */
    val tokenizer: Tokenizer? = if (info.hasTokenizer) Tokenizer(this) else null

    /** A conversation's cache. Throws [EdgekitException.OverBudget], [EdgekitException.OutOfMemory]. */
    @JvmOverloads
    fun session(options: SessionOptions = SessionOptions()): Session {
        val values = options.values()
        return Session(this, handle.use { Native.createSession(it, values.names, values.values) })
    }

    inline fun session(configure: SessionOptions.() -> Unit): Session = session(SessionOptions().apply(configure))

    /** What [session] would allocate, to the byte. */
    @JvmOverloads
    fun plan(options: SessionOptions = SessionOptions()): MemoryPlan {
        val values = options.values()
        return MemoryPlan.of(handle.use { Native.plan(it, values.names, values.values) })
    }

    /**
     * The conversation in the model's own chat format; `templateVariables` go to the template as they are. Throws
     * [EdgekitException.TemplateError], [EdgekitException.Unsupported] without a template.
     */
    @JvmOverloads
    fun renderChat(
        messages: List<Message>,
        tools: List<Map<String, Any?>>? = null,
        templateVariables: Map<String, Any?> = emptyMap(),
    ): String {
        val context = Message.context(messages, tools, templateVariables)
        return handle.use { Native.renderChat(it, context) }.decodeToString()
    }

    /** The same as token ids. Only the template's own text becomes special tokens, what the messages say never does. */
    @JvmOverloads
    fun encodeChat(
        messages: List<Message>,
        tools: List<Map<String, Any?>>? = null,
        templateVariables: Map<String, Any?> = emptyMap(),
    ): IntArray {
        val context = Message.context(messages, tools, templateVariables)
        return handle.use { Native.encodeChat(it, context) }
    }

    /** Frees the model once its sessions are closed too. */
    override fun close() = handle.free()

    internal fun <T> native(call: (Long) -> T): T = handle.use(call)

    companion object {
        /**
         * Maps the package. Blocks for milliseconds, with `verifyHashes` or `inMemory` for as long as the file takes to
         * read. What is mapped must stay as it is while the model is open. Throws [EdgekitException.InvalidFile], [EdgekitException.Unsupported], [EdgekitException.IoError].
         */
        @JvmStatic
        @JvmOverloads
        fun open(file: File, options: ModelOptions = ModelOptions()): Model {
            val isa = options.isa?.let(Native::utf8)
            val path = Native.utf8(file.path)
            return Model(Native.openModel(path, options.threads ?: 0, isa, options.verifyHashes, options.inMemory))
        }

        @JvmSynthetic
        inline fun open(file: File, configure: ModelOptions.() -> Unit): Model =
            open(file, ModelOptions().apply(configure))

        /** The plan for a package that is not open, read from its header. */
        @JvmStatic
        @JvmOverloads
        fun canLoad(file: File, options: SessionOptions = SessionOptions()): MemoryPlan {
            val values = options.values()
            return MemoryPlan.of(Native.canLoad(Native.utf8(file.path), values.names, values.values))
        }
    }
}

/** One message of a conversation. `members` are others that the template reads, such as "tool_calls", as JSON. */
data class Message @JvmOverloads constructor(
    val role: String,
    val content: String,
    val members: Map<String, Any?> = emptyMap(),
) {
    private fun toJson() = members + mapOf("role" to role, "content" to content)

    internal companion object {
        /** All that a chat template reads, as UTF-8 JSON. */
        fun context(messages: List<Message>, tools: List<Map<String, Any?>>?, variables: Map<String, Any?>): ByteArray {
            val given = mapOf("messages" to messages.map { it.toJson() }, "tools" to tools).filterValues { it != null }
            return Native.utf8(Json.write(variables + given))
        }
    }
}

data class ModelInfo(
    val vocabSize: Int,
    val nLayers: Int,
    val dModel: Int,
    /** Positions the model was trained for. */
    val context: Int,
    val hasTokenizer: Boolean,
    val hasChatTemplate: Boolean,
    val threads: Int,
    val fileBytes: Long,
    val weightBytes: Long,
    val nParameters: Long,
    /** The instruction set in use. */
    val isa: String,
    val modelType: String,
    val scheme: String,
    /** The package's whole metadata as JSON. */
    val metadata: String,
) {
    internal companion object {
        fun of(numbers: LongArray, texts: Array<ByteArray>) = ModelInfo(
            vocabSize = numbers[0].toInt(),
            nLayers = numbers[1].toInt(),
            dModel = numbers[2].toInt(),
            context = numbers[3].toInt(),
            hasTokenizer = numbers[4] != 0L,
            hasChatTemplate = numbers[5] != 0L,
            threads = numbers[6].toInt(),
            fileBytes = numbers[7],
            weightBytes = numbers[8],
            nParameters = numbers[9],
            isa = texts[0].decodeToString(),
            modelType = texts[1].decodeToString(),
            scheme = texts[2].decodeToString(),
            metadata = texts[3].decodeToString(),
        )
    }
}

/** What a model and a session of it allocate, to the byte; and what is mapped. */
data class MemoryPlan(
    /** Mapped from the file: clean pages, which the system may take back. */
    val weightBytes: Long,
    /** In the file: the tokenizer and the chat template. */
    val tokenizerBytes: Long,
    /** Allocated: keys and values. */
    val cacheBytes: Long,
    /** Allocated: everything else that is a session's own. */
    val activationBytes: Long,
    /** Allocated once per model, for all its sessions. */
    val modelBytes: Long,
    /** Allocated in all. */
    val totalBytes: Long,
    val window: Int,
    val sinks: Int,
    val chunk: Int,
    val kv: KvType,
) {
    internal companion object {
        fun of(plan: LongArray) = MemoryPlan(
            plan[0], plan[1], plan[2], plan[3], plan[4], plan[5],
            plan[6].toInt(), plan[7].toInt(), plan[8].toInt(), KvType.entries[plan[9].toInt()],
        )
    }
}

class Tokenizer internal constructor(private val model: Model) {
    private val info = model.native(Native::tokenizerInfo)

    val vocabSize: Int get() = info[0]

    /** Null where the tokenizer has none. */
    val bosId: Int? get() = info[1].takeIf { it >= 0 }

    /** The first of the model's end-of-sequence ids. */
    val eosId: Int? get() = info[2].takeIf { it >= 0 }
    val padId: Int? get() = info[3].takeIf { it >= 0 }

    /** `addSpecialTokens`: add BOS and the like; `parseSpecial`: recognise special tokens written in the text. */
    @JvmOverloads
    fun encode(text: String, addSpecialTokens: Boolean = true, parseSpecial: Boolean = true): IntArray =
        model.native { Native.encode(it, Native.utf8(text), Native.flags(addSpecialTokens, parseSpecial)) }

    /** Bytes that are not UTF-8 become U+FFFD. */
    @JvmOverloads
    fun decode(ids: IntArray, skipSpecialTokens: Boolean = false): String =
        model.native { Native.decode(it, ids, skipSpecialTokens) }.decodeToString()

    /** The raw bytes of one token, perhaps a part of a character. */
    fun tokenBytes(id: Int): ByteArray = model.native { Native.tokenBytes(it, id) }

    /** The id of a token's exact text, or null. */
    fun tokenToId(text: String): Int? = model.native { Native.tokenToId(it, Native.utf8(text)) }.takeIf { it >= 0 }
}
