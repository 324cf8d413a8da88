package io.github.edgekit

import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.launch

/**
 * A conversation: its cache and its sampler.
 *
 * A generation is a cold [Flow] that computes on [Dispatchers.IO], as fast as it is collected. Cancelling the collector,
 * or leaving it early (`take`, `first`), ends the generation within a token and leaves the session usable. A session
 * does one thing at a time: a call that changes it ends the generation that runs, whose flow then completes without an
 * [Event.Done].
 */
class Session internal constructor(private val model: Model, pointer: Long) : AutoCloseable {
    private val handle = Handle(this, "session", pointer, Native::freeSession)
    private val turn = Any()

    @Volatile
    private var running = 0L // the generation that runs, 0: none
    private var started = 0L

    /** Continues the whole text so far (or follows the cache, with `append`). */
    @JvmOverloads
    fun generate(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<Event> {
        val text = Native.utf8(prompt)
        return events { begin(options, text = text) }
    }

    /**
     * Answers a conversation, given whole; what the cache holds of it already is not computed again. What the messages
     * say never becomes a special token.
     */
    @JvmOverloads
    fun generate(messages: List<Message>, options: GenerateOptions = GenerateOptions()): Flow<Event> =
        generate(Message.context(messages, options.tools, options.templateVariables), options)

    /** `context`: what [Message.context] makes. */
    internal fun generate(context: ByteArray, options: GenerateOptions): Flow<Event> =
        events { begin(options, messages = context) }

    @JvmOverloads
    fun generate(ids: IntArray, options: GenerateOptions = GenerateOptions()): Flow<Event> =
        events { begin(options, ids = ids) }

    inline fun generate(prompt: String, configure: GenerateOptions.() -> Unit): Flow<Event> =
        generate(prompt, GenerateOptions().apply(configure))

    inline fun generate(messages: List<Message>, configure: GenerateOptions.() -> Unit): Flow<Event> =
        generate(messages, GenerateOptions().apply(configure))

    inline fun generate(ids: IntArray, configure: GenerateOptions.() -> Unit): Flow<Event> =
        generate(ids, GenerateOptions().apply(configure))

    /** For Java: begins at once and calls back on `executor`, for example `ContextCompat.getMainExecutor(context)`. */
    fun generate(prompt: String, options: GenerateOptions, executor: Executor, callback: EventCallback): Generation =
        generate(prompt, options).callBack(executor, callback)

    fun generate(messages: List<Message>, options: GenerateOptions, executor: Executor, callback: EventCallback): Generation =
        generate(messages, options).callBack(executor, callback)

    /** From any thread: what runs ends soon, with [Finish.CANCELLED]. */
    fun cancel() = handle.use(Native::cancel)

    /**
     * Appends tokens to the cache. Logits of the last token [vocabSize], or with `allLogits` of each
     * [ids.size * vocabSize].
     */
    @JvmOverloads
    fun forward(ids: IntArray, allLogits: Boolean = false): FloatArray =
        exclusively { Native.forward(it, ids, allLogits) }

    /** Tokens processed since the start, evicted ones included. */
    val position: Long get() = handle.use(Native::position)

    /** What this session allocated. */
    val plan: MemoryPlan get() = MemoryPlan.of(handle.use(Native::sessionPlan))

    /** Forgets everything; allocates nothing. */
    fun reset() = exclusively(Native::reset)

    /** Takes the last tokens back, as long as the cache still holds what comes into view again. */
    fun rewind(count: Long) = exclusively { Native.rewind(it, count) }

    /** A second session with the same contents. */
    fun fork(): Session = Session(model, between(Native::fork))

    /** Writes the state to a file, whole or not at all; portable between devices, bound to the model's weights. */
    fun save(file: File) = between { Native.save(it, Native.utf8(file.path)) }

    /** Takes a saved state. Throws [EdgekitException.InvalidFile], and keeps the state it had. */
    fun restore(file: File) = exclusively { Native.restore(it, Native.utf8(file.path)) }

    /** Ends what runs, as another call does, and frees the memory. */
    override fun close() {
        runCatching { cancel() } // closed already
        synchronized(turn) { running = 0 }
        handle.free()
    }

    // ---- one thing at a time

    private fun <T> exclusively(call: (Long) -> T): T {
        if (running != 0L) cancel() // rather than wait for a token
        return synchronized(turn) {
            handle.use { pointer ->
                end(running)
                call(pointer)
            }
        }
    }

    /** A call that changes nothing: between two tokens of what runs. */
    private fun <T> between(call: (Long) -> T): T = synchronized(turn) { handle.use(call) }

    private fun begin(
        options: GenerateOptions,
        text: ByteArray? = null,
        messages: ByteArray? = null,
        ids: IntArray? = null,
    ): Long {
        val given = options.values()
        val stops = options.stop.map(Native::utf8).toTypedArray()
        val stopIds = options.stopIds.toIntArray()
        val biasIds = options.logitBias.keys.toIntArray()
        val bias = options.logitBias.values.toFloatArray()
        return exclusively { pointer ->
            Native.generate(
                pointer, text, messages, ids, stops, stopIds, biasIds, bias, given.names, given.values,
            )
            running = ++started
            running
        }
    }

    /** Null: another call on the session has ended this generation. */
    private fun next(generation: Long): Event? = synchronized(turn) {
        if (running != generation) return@synchronized null
        try {
            handle.use(Native::next).also { if (it is Event.Done) running = 0 }
        } catch (error: Throwable) {
            running = 0
            throw error
        }
    }

    private fun end(generation: Long): Unit = synchronized(turn) {
        if (running == 0L || running != generation) return
        running = 0
        try {
            handle.use(Native::endGeneration)
        } catch (_: EdgekitException) {
            // closed meanwhile: it has ended
        }
    }

    private fun events(begin: () -> Long): Flow<Event> = flow {
        val generation = begin()
        try {
            interruptible({ if (running == generation) cancel() }) {
                do {
                    val event = next(generation) ?: break
                    emit(event)
                } while (event !is Event.Done)
            }
        } finally {
            end(generation)
        }
    }.buffer(Channel.RENDEZVOUS).flowOn(Dispatchers.IO)
}

/**
 * How Java follows a generation. No call comes after [onError] or an [Event.Done], nor when another call on the session
 * has ended the generation.
 */
interface EventCallback {
    fun onEvent(event: Event)
    fun onError(error: EdgekitException)
}

fun interface Generation {
    /** Ends it; no event follows. */
    fun cancel()
}

private fun Flow<Event>.callBack(executor: Executor, callback: EventCallback): Generation {
    val job = CoroutineScope(executor.asCoroutineDispatcher()).launch {
        try {
            collect { callback.onEvent(it) }
        } catch (error: EdgekitException) {
            callback.onError(error)
        }
    }
    return Generation { job.cancel() }
}

/** Runs `block`, which blocks its thread; when the coroutine is cancelled meanwhile, `interrupt` runs on another one. */
internal suspend fun <T> interruptible(interrupt: () -> Unit, block: suspend () -> T): T = coroutineScope {
    val done = AtomicBoolean()
    val watcher = launch(start = CoroutineStart.UNDISPATCHED) {
        try {
            awaitCancellation()
        } finally {
            if (!done.get()) runCatching(interrupt)
        }
    }
    try {
        block()
    } finally {
        done.set(true)
        watcher.cancel()
    }
}
