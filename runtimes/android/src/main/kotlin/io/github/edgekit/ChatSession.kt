package io.github.edgekit

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/**
 * A conversation: keeps the messages, and computes only what is new in each turn.
 *
 *     ChatSession(model, system = "Answer in one sentence.").use { chat ->
 *         chat.say("Why is the sky blue?").collect { if (it is Event.Text) print(it.text) }
 *     }
 *
 * One turn at a time: a new one ends the one before, which keeps what it had said.
 */
class ChatSession @JvmOverloads constructor(
    model: Model,
    system: String? = null,
    messages: List<Message> = emptyList(),
    options: SessionOptions = SessionOptions(),
) : AutoCloseable {
    val session: Session = model.session(options)

    /** The conversation, its system message included. May be changed between turns; a reply joins it when it has ended. */
    @get:Synchronized
    @set:Synchronized
    var messages: List<Message> = messages

    /** The system message, or null; what is set counts from the next turn on. */
    @get:Synchronized
    @set:Synchronized
    var system: String?
        get() = messages.firstOrNull()?.takeIf { it.role == "system" }?.content
        set(text) {
            val rest = if (system == null) messages else messages.drop(1)
            messages = listOfNotNull(text?.let { Message("system", it) }) + rest
        }

    /** The tools that the template tells the model of, as JSON (maps, lists, strings, …). */
    @Volatile var tools: List<Map<String, Any?>>? = null

    /** Switches the reasoning of models that have it on or off; null leaves it to the template. */
    @Volatile var thinking: Boolean? = null

    private var turn: Turn? = null

    /** What a reply answers, and the reply so far. */
    private class Turn(val asked: List<Message>) {
        val reply = StringBuilder()
    }

    init {
        if (system != null) this.system = system
    }

    /** Says something, as the user; collect the reply. Both join the messages, unless not a word was said. */
    @JvmOverloads
    fun say(text: String, options: GenerateOptions = GenerateOptions()): Flow<Event> =
        reply(options) { it + Message("user", text) }

    /** As [say], to the messages as they stand: after a tool's results were added, for example. */
    @JvmOverloads
    fun reply(options: GenerateOptions = GenerateOptions()): Flow<Event> = reply(options) {
        if (it.isEmpty() || it.last().role in listOf("system", "assistant")) {
            throw EdgekitException.InvalidArgument("the last message is nobody's question; say something first")
        }
        it
    }

    /** Another reply in the place of the last; that one stays until the new one ends. */
    @JvmOverloads
    fun regenerate(options: GenerateOptions = GenerateOptions()): Flow<Event> = reply(options) { messages ->
        val asked = messages.dropLastWhile { it.role == "assistant" }
        if (asked.size == messages.size) {
            throw EdgekitException.InvalidArgument("there is no reply to generate again; say something first")
        }
        asked
    }

    /** Takes the last user's message and all that followed back, and returns it. */
    @Synchronized
    fun undo(): Message {
        end()
        val last = messages.indexOfLast { it.role == "user" }
        if (last < 0) throw EdgekitException.InvalidArgument("there is no turn to take back")
        return messages[last].also { messages = messages.take(last) }
    }

    /** Forgets the conversation, all but its system message. */
    @Synchronized
    fun reset() {
        turn = null
        messages = messages.take(if (system == null) 0 else 1)
        session.reset()
    }

    /** From any thread: the reply ends soon, with [Finish.CANCELLED]. */
    fun cancel() = session.cancel()

    override fun close() = session.close()

    private fun reply(options: GenerateOptions, question: (List<Message>) -> List<Message>): Flow<Event> = flow {
        val turn = begin(question)
        try {
            session.generate(context(turn.asked, options), options).collect { event ->
                hear(turn, event)
                emit(event)
            }
        } finally {
            end(turn)
        }
    }

    private fun context(asked: List<Message>, options: GenerateOptions): ByteArray {
        val switch = thinking?.let { on -> THINKING.associateWith { on } } ?: emptyMap()
        return Message.context(asked, options.tools ?: tools, options.templateVariables + switch)
    }

    @Synchronized
    private fun begin(question: (List<Message>) -> List<Message>): Turn {
        end()
        return Turn(question(messages)).also { turn = it }
    }

    @Synchronized
    private fun hear(turn: Turn, event: Event) {
        if (event is Event.Text) turn.reply.append(event.text)
        if (event is Event.Done) end(turn, whole = event.finish != Finish.CANCELLED)
    }

    /** The reply joins the messages, unless another turn has seen to that. */
    @Synchronized
    private fun end(ended: Turn? = turn, whole: Boolean = false) {
        if (ended == null || turn !== ended) return
        turn = null
        if (whole || ended.reply.isNotEmpty()) messages = ended.asked + Message("assistant", ended.reply.toString())
    }

    private companion object {
        /** What templates call the switch. */
        val THINKING = listOf("enable_thinking", "thinking")
    }
}
