package io.github.edgekit

import android.app.Application
import io.github.edgekit.sample.ChatState
import io.github.edgekit.sample.ChatViewModel
import java.io.File
import java.nio.file.Files
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The sample app's view model, which has no screen here. */
internal class SampleTest {
    private val folder = Files.createTempDirectory("sample").toFile()
    private val assets = File(folder, "assets").apply { mkdir() }
    private val app = Application(assets, File(folder, "files"))

    @AfterEach
    fun delete() { folder.deleteRecursively() }

    private fun ChatViewModel.wait(condition: (ChatState) -> Boolean) =
        runBlocking { withTimeout(120_000) { state.first(condition) } }

    @Test
    fun `chats, stops, and chats again`() {
        File(Golden.folder, "engine/text.edge").copyTo(File(assets, "model.edge"))
        val chat = ChatViewModel(app)
        assertEquals("llama, q8", chat.wait { it.ready }.status)
        repeat(2) { turn ->
            chat.send("hi")
            val answering = chat.wait { it.messages.size == 2 * turn + 2 && it.messages.last().content.isNotEmpty() }
            assertEquals("assistant", answering.messages.last().role)
            chat.stop()
            chat.wait { !it.answering }
            chat.rest() // as when the system wants memory back: the next turn knows the ones before
        }
        chat.clear()
    }

    @Test
    fun `says what is wrong with the model`() {
        File(assets, "model.edge").writeText("noise")
        val chat = ChatViewModel(app)
        val state = chat.wait { "Opening" !in it.status }
        assertTrue(!state.ready && state.status.isNotBlank(), "$state")
        chat.clear()
    }
}
