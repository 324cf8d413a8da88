package io.github.edgekit

import java.lang.ref.PhantomReference
import java.lang.ref.ReferenceQueue
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.thread
import kotlin.concurrent.write

/** The library. */
object Edgekit {
    val version: String get() = Native.version().decodeToString()

    /** Instruction sets this build has and this processor runs, best first. */
    val isas: List<String> get() = Native.isas().decodeToString().split(',')
}

/** What edgekit_jni.cpp implements, and what it calls. Text crosses as UTF-8. */
internal object Native {
    init {
        System.loadLibrary("edgekit_jni")
    }

    @JvmStatic external fun version(): ByteArray
    @JvmStatic external fun isas(): ByteArray

    @JvmStatic external fun openModel(path: ByteArray, threads: Int, isa: ByteArray?, verifyHashes: Boolean, inMemory: Boolean): Long
    @JvmStatic external fun freeModel(model: Long)
    @JvmStatic external fun modelNumbers(model: Long): LongArray
    @JvmStatic external fun modelTexts(model: Long): Array<ByteArray>
    @JvmStatic external fun renderChat(model: Long, context: ByteArray): ByteArray
    @JvmStatic external fun encodeChat(model: Long, context: ByteArray): IntArray
    @JvmStatic external fun plan(model: Long, names: Array<ByteArray>, values: LongArray): LongArray
    @JvmStatic external fun canLoad(path: ByteArray, names: Array<ByteArray>, values: LongArray): LongArray

    @JvmStatic external fun encode(model: Long, text: ByteArray, flags: Int): IntArray
    @JvmStatic external fun decode(model: Long, ids: IntArray, skipSpecial: Boolean): ByteArray
    @JvmStatic external fun tokenBytes(model: Long, id: Int): ByteArray
    @JvmStatic external fun tokenToId(model: Long, text: ByteArray): Int
    @JvmStatic external fun tokenizerInfo(model: Long): IntArray

    @JvmStatic external fun createSession(model: Long, names: Array<ByteArray>, values: LongArray): Long
    @JvmStatic external fun freeSession(session: Long)
    @JvmStatic external fun generate(
        session: Long,
        prompt: ByteArray?,
        messages: ByteArray?,
        promptIds: IntArray?,
        stops: Array<ByteArray>,
        stopIds: IntArray,
        biasIds: IntArray,
        biasValues: FloatArray,
        names: Array<ByteArray>,
        values: LongArray,
    )
    @JvmStatic external fun next(session: Long): Event
    @JvmStatic external fun endGeneration(session: Long)
    @JvmStatic external fun cancel(session: Long)
    @JvmStatic external fun forward(session: Long, ids: IntArray, allLogits: Boolean): FloatArray
    @JvmStatic external fun position(session: Long): Long
    @JvmStatic external fun sessionPlan(session: Long): LongArray
    @JvmStatic external fun reset(session: Long)
    @JvmStatic external fun rewind(session: Long, count: Long)
    @JvmStatic external fun fork(session: Long): Long
    @JvmStatic external fun save(session: Long, path: ByteArray)
    @JvmStatic external fun restore(session: Long, path: ByteArray)

    // ---- called from C++

    @JvmStatic fun failure(status: Int, message: ByteArray, neededBytes: Long): Throwable =
        EdgekitException.of(status, message.decodeToString(), neededBytes)

    @JvmStatic fun text(text: ByteArray, tokens: IntArray): Event = Event.Text(text.decodeToString(), tokens)

    @JvmStatic fun evicted(first: Long, count: Long): Event = Event.Evicted(first, count)

    @JvmStatic fun done(
        finish: Int,
        promptTokens: Int,
        cachedTokens: Int,
        generatedTokens: Int,
        draftedTokens: Int,
        acceptedTokens: Int,
        prefillMs: Double,
        firstTokenMs: Double,
        decodeMs: Double,
        seed: Long,
        takenBack: Int,
    ): Event = Event.Done(
        Finish.entries[finish],
        Statistics(
            promptTokens, cachedTokens, generatedTokens, draftedTokens, acceptedTokens, prefillMs, firstTokenMs, decodeMs,
        ),
        seed,
        takenBack,
    )

    // ---- the edge of Unicode, and flags

    fun flags(addSpecial: Boolean, parseSpecial: Boolean): Int = (if (addSpecial) 1 else 0) or (if (parseSpecial) 2 else 0)

    /** Throws [EdgekitException.InvalidArgument] for a lone surrogate, which is no Unicode. */
    fun utf8(text: String): ByteArray = try {
        text.encodeToByteArray(throwOnInvalidSequence = true)
    } catch (_: CharacterCodingException) {
        throw EdgekitException.InvalidArgument("the text is not valid Unicode: it has half of a surrogate pair")
    }
}

/**
 * A native object, freed once: by [free], or when nothing refers to its `owner` any more. Calls may overlap; freeing
 * waits for those that run.
 */
internal class Handle(owner: Any, private val what: String, private var pointer: Long, private val release: (Long) -> Unit) :
    PhantomReference<Any>(owner, dropped) {
    private val lock = ReentrantReadWriteLock()

    init {
        alive.add(this)
    }

    fun <T> use(call: (Long) -> T): T = lock.read {
        if (pointer == 0L) throw EdgekitException.InvalidArgument("this $what is closed")
        call(pointer)
    }

    fun free() {
        alive.remove(this)
        lock.write {
            if (pointer != 0L) release(pointer)
            pointer = 0
        }
    }

    private companion object {
        val dropped = ReferenceQueue<Any>()
        val alive: MutableSet<Handle> = ConcurrentHashMap.newKeySet()

        init {
            thread(isDaemon = true, name = "edgekit-free") {
                while (true) (dropped.remove() as Handle).free()
            }
        }
    }
}
