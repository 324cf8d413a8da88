package io.github.edgekit

import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

internal class ChatSessionTest {
    private val model = Golden.model("text.edge")
    private val short = GenerateOptions().apply { maxTokens = 6; ignoreEos = true; temperature = 0f }

    @AfterEach
    fun close() = model.close()

    private fun roles(chat: ChatSession) = chat.messages.map { it.role }

    @Test
    fun `turns are the same conversation given whole`() {
        ChatSession(model, system = "Be brief.").use { chat ->
            collect(chat.say("hi", short))
            val second = collect(chat.say("and you?", short))
            assertEquals(listOf("system", "user", "assistant", "user", "assistant"), roles(chat))
            assertEquals(second.text, chat.messages.last().content)
            assertTrue(second.done!!.stats.cachedTokens > 0)
            val whole = chat.messages.dropLast(1)
            model.session().use { assertArrayEquals(second.ids, collect(it.generate(whole, short)).ids) }
        }
    }

    @Test
    fun `again, back, and anew`() {
        ChatSession(model).use { chat ->
            assertThrows(EdgekitException.InvalidArgument::class.java) { collect(chat.regenerate(short)) }
            assertThrows(EdgekitException.InvalidArgument::class.java) { chat.undo() }
            val first = collect(chat.say("hi", short))
            assertArrayEquals(first.ids, collect(chat.regenerate(short)).ids)
            assertEquals(listOf("user", "assistant"), roles(chat))
            collect(chat.say("more", short))
            assertEquals(Message("user", "more"), chat.undo())
            assertEquals(listOf("user", "assistant"), roles(chat))
            chat.messages += Message("tool", "3")
            collect(chat.reply(short))
            assertEquals(listOf("user", "assistant", "tool", "assistant"), roles(chat))
            chat.system = "Be brief."
            chat.system = "Be kind."
            chat.reset()
            assertEquals(listOf(Message("system", "Be kind.")) to 0L, chat.messages to chat.session.position)
            assertThrows(EdgekitException.InvalidArgument::class.java) { collect(chat.reply(short)) }
        }
    }

    @Test
    fun `an answer that is left keeps what it had said`() {
        ChatSession(model).use { chat ->
            runBlocking { chat.say("hi", short).first { it is Event.Text && it.text.isNotEmpty() } }
            assertEquals(listOf("user", "assistant"), roles(chat))
            chat.cancel() // nothing runs
            assertThrows(EdgekitException.InvalidArgument::class.java) { collect(chat.say("?", GenerateOptions().apply { topP = 2f })) }
            assertEquals(listOf("user", "assistant"), roles(chat))
        }
    }
}
