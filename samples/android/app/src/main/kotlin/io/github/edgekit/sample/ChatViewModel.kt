package io.github.edgekit.sample

import android.app.Application
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.viewModelScope
import io.github.edgekit.ChatSession
import io.github.edgekit.EdgekitException
import io.github.edgekit.Event
import io.github.edgekit.Message
import io.github.edgekit.Model
import io.github.edgekit.ModelStore
import io.github.edgekit.SessionOptions
import java.util.Locale
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

data class ChatState(
    val messages: List<Message> = emptyList(),
    val status: String = "Opening the model …",
    val ready: Boolean = false,
    val answering: Boolean = false,
)

/** Holds the model and its one conversation for as long as the screen lives, turns of the phone included. */
class ChatViewModel(application: Application) : AndroidViewModel(application) {
    private val mutableState = MutableStateFlow(ChatState())
    val state: StateFlow<ChatState> = mutableState.asStateFlow()

    private var model: Model? = null
    private var chat: ChatSession? = null
    private var answer: Job? = null
    private var messages = emptyList<Message>() // of a conversation that rests

    init {
        viewModelScope.launch {
            try {
                val assets = application.assets
                val file = ModelStore(application.filesDir).install("model.edge") { assets.open("model.edge") }
                val opened = withContext(Dispatchers.IO) { Model.open(file) }
                model = opened
                chat = open(opened)
                mutableState.update { it.copy(status = "${opened.info.modelType}, ${opened.info.scheme}", ready = true) }
            } catch (error: EdgekitException) {
                mutableState.update { it.copy(status = error.message ?: "$error") }
            }
        }
    }

    private fun open(model: Model) =
        ChatSession(model, messages = messages, options = SessionOptions().apply { memoryBudget = 256L shl 20 })

    /** Gives the session's memory back while nobody looks; the next message opens another, which computes the conversation again. */
    fun rest() {
        if (state.value.answering) return
        chat?.let { messages = it.messages }
        chat?.close()
        chat = null
    }

    fun send(text: String) {
        val chat = chat ?: open(model ?: return).also { chat = it }
        val asked = chat.messages + Message("user", text)
        mutableState.update { it.copy(messages = asked + Message("assistant", ""), answering = true) }
        answer = viewModelScope.launch {
            val reply = StringBuilder()
            try {
                chat.say(text).collect { event ->
                    when (event) {
                        is Event.Text -> {
                            reply.append(event.text)
                            mutableState.update { it.copy(messages = asked + Message("assistant", reply.toString())) }
                        }
                        is Event.Evicted -> mutableState.update { it.copy(status = "The beginning has left the memory") }
                        is Event.Done -> {
                            val speed = String.format(Locale.ROOT, "%.1f tokens/s", event.stats.decodeTokS)
                            mutableState.update { it.copy(status = speed) }
                        }
                    }
                }
            } catch (error: EdgekitException) {
                mutableState.update { it.copy(status = error.message ?: "$error") }
            } finally {
                mutableState.update { it.copy(answering = false) }
            }
        }
    }

    fun stop() {
        answer?.cancel()
    }

    override fun onCleared() {
        chat?.close()
        model?.close()
    }
}
