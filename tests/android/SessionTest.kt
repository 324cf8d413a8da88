package io.github.edgekit

import java.io.File
import java.nio.file.Files
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Cancelling, leaving, dropping, closing, sharing; text and errors at the edge of the JVM. */
internal class SessionTest {
    private val model = Golden.model("text.edge")
    private val endless = GenerateOptions().apply { maxTokens = GenerateOptions.ENDLESS; ignoreEos = true }
    private val short = GenerateOptions().apply { maxTokens = 12; ignoreEos = true; temperature = 0f }

    @AfterEach
    fun close() = model.close()

    /** What `short` gives on a fresh session: the proof that nothing of an earlier generation is left. */
    private val expected by lazy { model.session().use { collect(it.generate("Hello", short)).ids } }

    private fun assertUsable(session: Session) {
        session.reset()
        assertArrayEquals(expected, collect(session.generate("Hello", short)).ids)
    }

    @Test
    fun `cancelling the collector ends the generation`() = runBlocking {
        model.session().use { session ->
            val begun = CountDownLatch(1)
            val job = launch(Dispatchers.Default) { session.generate("Hello", endless).collect { begun.countDown() } }
            begun.await()
            job.cancelAndJoin()
            assertUsable(session)
        }
    }

    @Test
    fun `a long prompt is left as soon as its collector is cancelled`() = runBlocking {
        model.session().use { session ->
            val ids = IntArray(200_000) { it * 7 % 250 }
            val job = launch(Dispatchers.Default) { session.generate(ids, endless).collect { } }
            while (session.position == 0L) Thread.sleep(1)
            job.cancelAndJoin()
            assertTrue(session.position < ids.size, "${session.position} tokens were computed")
            assertUsable(session)
        }
    }

    @Test
    fun `leaving early ends the generation`() = runBlocking {
        model.session().use { session ->
            assertEquals(3, session.generate("Hello", endless).take(3).toList().size)
            session.generate("Hello", endless).filterIsInstance<Event.Text>().first()
            assertUsable(session)
        }
    }

    @Test
    fun `cancel gives a last event`() {
        model.session().use { session ->
            val begun = CountDownLatch(1)
            val canceller = thread { begun.await(); session.cancel() }
            var finish: Finish? = null
            runBlocking {
                session.generate("Hello", endless).collect {
                    begun.countDown()
                    if (it is Event.Done) finish = it.finish
                }
            }
            canceller.join()
            assertEquals(Finish.CANCELLED, finish)
            assertUsable(session)
        }
    }

    @Test
    fun `another call ends the generation that runs`() = runBlocking {
        model.session().use { session ->
            val begun = CountDownLatch(1)
            var finish: Finish? = null
            val job = launch(Dispatchers.Default) {
                session.generate("Hello", endless).collect {
                    begun.countDown()
                    if (it is Event.Done) finish = it.finish
                }
            }
            begun.await()
            assertUsable(session)
            job.join()
            assertTrue(finish == null || finish == Finish.CANCELLED, "$finish")
        }
    }

    @Test
    fun `saving and forking leave what runs alone`() {
        val file = Files.createTempFile("edgekit", ".session").toFile()
        model.session().use { session ->
            val alone = collect(session.generate("Hello", short))
            session.reset()
            val disturbed = collect(session.generate("Hello", short).onEach {
                session.save(file)
                session.fork().close()
            })
            assertArrayEquals(alone.ids, disturbed.ids)
            assertEquals(Finish.LENGTH, disturbed.done!!.finish)
        }
        file.delete()
    }

    @Test
    fun `closing in the middle of a generation`() = runBlocking {
        val session = model.session()
        val begun = CountDownLatch(1)
        val job = launch(Dispatchers.Default) { session.generate("Hello", endless).collect { begun.countDown() } }
        begun.await()
        session.close()
        model.close()
        job.join()
        session.close() // again: nothing happens
        val error = assertThrows(EdgekitException.InvalidArgument::class.java) { session.position }
        assertEquals("this session is closed", error.message)
    }

    @Test
    fun `objects that are dropped in the middle of a generation are freed`() = runBlocking {
        repeat(50) {
            Golden.model("text.edge").session().generate("Hello", endless).take(2).toList()
        }
        System.gc()
        assertUsable(model.session())
    }

    @Test
    fun `a session outlives its model`() {
        val other = Golden.model("text.edge")
        other.session().use { session ->
            other.close()
            assertArrayEquals(expected, collect(session.generate("Hello", short)).ids)
        }
    }

    @Test
    fun `threads share a model`() {
        val results = java.util.Collections.synchronizedList(mutableListOf<IntArray>())
        (1..4).map { thread { model.session().use { results += collect(it.generate("Hello", short)).ids } } }.forEach { it.join() }
        assertEquals(4, results.size)
        for (ids in results) assertArrayEquals(expected, ids)
    }

    @Test
    fun `callbacks come on the executor and end with done`() {
        model.session().use { session ->
            val queue = java.util.concurrent.LinkedBlockingQueue<Runnable>()
            val text = StringBuilder()
            var done = false
            session.generate("Hello", short, Executor(queue::put), object : EventCallback {
                override fun onEvent(event: Event) {
                    if (event is Event.Text) text.append(event.text)
                    done = event is Event.Done
                }

                override fun onError(error: EdgekitException) = throw error
            })
            while (!done) queue.poll(60, TimeUnit.SECONDS)!!.run()
            session.reset()
            assertEquals(collect(session.generate("Hello", short)).text, text.toString())
        }
    }

    @Test
    fun `callbacks are told of errors`() {
        val session = model.session()
        session.close()
        val failed = CountDownLatch(1)
        session.generate("Hello", short, Runnable::run, object : EventCallback {
            override fun onEvent(event: Event) = throw AssertionError("$event")
            override fun onError(error: EdgekitException) = failed.countDown()
        })
        assertTrue(failed.await(60, TimeUnit.SECONDS))
    }

    @Test
    fun `the cache wraps and tells`() {
        model.session { window = 24; sinks = 2 }.use { session ->
            val got = collect(session.generate("Hello") { maxTokens = 100; ignoreEos = true })
            assertEquals(session.position - 26, got.evicted)
        }
        model.session { window = 24; sinks = 2; onFull = OnFull.STOP }.use { session ->
            assertEquals(Finish.CONTEXT_FULL, collect(session.generate("Hello", endless)).done!!.finish)
        }
        model.session { window = 24; sinks = 2; onFull = OnFull.ERROR }.use { session ->
            assertThrows(EdgekitException.ContextFull::class.java) { collect(session.generate("Hello", endless)) }
        }
    }

    @Test
    fun `forks, states and rewinds`() {
        val file = Files.createTempFile("mé", ".session").toFile()
        model.session().use { session ->
            collect(session.generate("Hello", short))
            session.fork().use { fork ->
                session.save(file)
                session.rewind(4)
                assertEquals(fork.position - 4, session.position)
                session.restore(file)
                assertEquals(fork.position, session.position)
                val next = GenerateOptions().apply { maxTokens = 8; ignoreEos = true; append = true; seed = 3 }
                assertArrayEquals(collect(fork.generate("and", next)).ids, collect(session.generate("and", next)).ids)
            }
            file.writeText("noise")
            assertThrows(EdgekitException.InvalidFile::class.java) { session.restore(file) }
        }
        file.delete()
    }

    @Test
    fun `options reach the engine`() {
        model.session().use { session ->
            val first = expected[0]
            val got = collect(session.generate("Hello") { maxTokens = 5; temperature = 0f; logitBias = mapOf(first to Float.NEGATIVE_INFINITY) })
            assertNotEquals(first, got.ids[0])
            session.reset()
            val greedy = GenerateOptions().apply { temperature = 0f; stop = listOf("U") }
            val stopped = collect(session.generate("Once upon a time", greedy))
            assertEquals("8" to Finish.STOP, stopped.text to stopped.done!!.finish)
            for (wrong in listOf<GenerateOptions.() -> Unit>({ topP = 2f }, { maxTokens = -1 }, { temperature = Float.NaN })) {
                assertThrows(EdgekitException.InvalidArgument::class.java) { collect(session.generate("Hello", wrong)) }
            }
            assertUsable(session)
        }
    }

    @Test
    fun `a seed is 64 bits`() {
        model.session().use { session ->
            val texts = listOf(1L, -2L, 1L shl 40).map {
                session.reset()
                val got = collect(session.generate("Hello") { seed = it; temperature = 2f; maxTokens = 20; ignoreEos = true })
                assertEquals(it, got.done!!.seed)
                got.ids.asList()
            }
            assertEquals(3, texts.toSet().size)
        }
    }

    @Test
    fun `what is not given is the package's`() {
        model.session { window = 24; sinks = 2 }.use { session ->
            val drawn = collect(session.generate("Hello") { ignoreEos = true })
            assertEquals(Finish.LENGTH to 26, drawn.done!!.finish to drawn.ids.size)
            session.reset()
            val again = GenerateOptions().apply { seed = drawn.done.seed; temperature = 0.7f; topK = 20; ignoreEos = true }
            assertArrayEquals(drawn.ids, collect(session.generate("Hello", again)).ids)
            session.reset()
            val other = collect(session.generate("Hello") { ignoreEos = true })
            assertNotEquals(drawn.done.seed, other.done!!.seed)
        }
    }

    @Test
    fun `text goes through as it is`() {
        val tokenizer = model.tokenizer!!
        for (text in listOf("", "Straße 東京 🙂", "a\u0000b", "\"\\\n")) {
            assertEquals(text, tokenizer.decode(tokenizer.encode(text), skipSpecialTokens = true))
            assertEquals("<|begin|>$text", tokenizer.decode(tokenizer.encode(text)))
        }
        assertThrows(EdgekitException.InvalidArgument::class.java) { tokenizer.encode("half a pair: \ud83d") }
        assertTrue("\"\\\n\u0001🙂" in model.renderChat(listOf(Message("user", "\"\\\n\u0001🙂"))))
        assertEquals(tokenizer.eosId, tokenizer.tokenToId(tokenizer.tokenBytes(tokenizer.eosId!!).decodeToString()))
    }

    @Test
    fun `logits have the vocabulary's size`() {
        model.session().use { session ->
            val ids = model.tokenizer!!.encode("Hello")
            val all = session.forward(ids, allLogits = true)
            assertEquals(ids.size * model.info.vocabSize, all.size)
            session.reset()
            assertArrayEquals(all.copyOfRange(all.size - model.info.vocabSize, all.size), session.forward(ids))
        }
    }

    @Test
    fun `plans and budgets`() {
        val plan = model.plan(SessionOptions().apply { window = 64 })
        assertEquals(plan, model.session { window = 64 }.use { it.plan })
        assertEquals(plan.weightBytes, Model.canLoad(File(Golden.folder, "engine/text.edge")).weightBytes)
        val error = assertThrows(EdgekitException.OverBudget::class.java) { model.session { memoryBudget = 1000 } }
        model.session { memoryBudget = error.neededBytes }.close()
    }

    @Test
    fun `files that are no packages`() {
        val none = assertThrows(EdgekitException.IoError::class.java) { Model.open(File("no such file")) }
        assertTrue("no such file" in none.message!!)
        assertThrows(EdgekitException.InvalidFile::class.java) { Model.open(File(Golden.folder, "download.json")) }
        assertThrows(EdgekitException.Unsupported::class.java) { Model.open(File(Golden.folder, "engine/text.edge")) { isa = "abacus" } }
        val truncated = Files.createTempFile("truncated", ".edge").toFile()
        truncated.writeBytes(File(Golden.folder, "engine/text.edge").readBytes().copyOf(100_000))
        assertThrows(EdgekitException.InvalidFile::class.java) { Model.open(truncated) }
        truncated.delete()
        Model.open(File(Golden.folder, "engine/text.edge")) { verifyHashes = true; inMemory = true }.close()
    }

    @Test
    fun `what the model is`() {
        val info = model.info
        assertEquals(listOf(260, 2, "q8", true), listOf(info.vocabSize, info.nLayers, info.scheme, info.hasChatTemplate))
        assertTrue(info.isa in Edgekit.isas && Edgekit.version.count { it == '.' } == 2)
    }
}
