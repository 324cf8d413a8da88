package io.github.edgekit

import java.io.File
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory

/** The engine's golden cases: the same tokens and text as from every other binding. */
internal class GoldenTest {
    private fun session(model: Model, options: Node) = model.session {
        window = options["window"].int
        sinks = options["sinks"].int
        kv = KvType.valueOf(options["kv"].text.uppercase())
    }

    private fun options(wanted: Node) = GenerateOptions().apply {
        for ((name, value) in wanted.entries) {
            when (name) {
                "max_tokens" -> maxTokens = value.int
                "ignore_eos" -> ignoreEos = value.value as Boolean
                "temperature" -> temperature = value.float
                "top_k" -> topK = value.int
                "top_p" -> topP = value.float
                "min_p" -> minP = value.float
                "repetition_penalty" -> repetitionPenalty = value.float
                "seed" -> seed = value.value as Long
                "stop_ids" -> stopIds = value.ints.asList()
                else -> error("a golden case has the unknown option $name")
            }
        }
    }

    private fun messages(case: Node) = case["messages"].items.map { Message(it["role"].text, it["content"].text) }

    @TestFactory
    fun cases() = Golden.engine["cases"].items.mapIndexed { number, case ->
        DynamicTest.dynamicTest("$number ${case["model"].text}") {
            Golden.model(case["model"].text).use { model ->
                session(model, case["session"]).use { session ->
                    val options = options(case["generate"])
                    val got = collect(
                        when {
                            "prompt" in case -> session.generate(case["prompt"].text, options)
                            "messages" in case -> session.generate(messages(case), options)
                            else -> session.generate(case["prompt_ids"].ints, options)
                        },
                    )
                    assertArrayEquals(case["ids"].ints, got.ids)
                    assertEquals(case["text"].text, got.text)
                    assertEquals(Finish.valueOf(case["finish"].text.uppercase()), got.done!!.finish)
                    options.seed?.let { assertEquals(it, got.done.seed) }
                }
            }
        }
    }

    @TestFactory
    fun chats() = Golden.engine["chats"].items.mapIndexed { number, chat ->
        DynamicTest.dynamicTest("chat $number") {
            Golden.model(chat["model"].text).use { model ->
                assertEquals(chat["text"].text, model.renderChat(messages(chat)))
                assertArrayEquals(chat["ids"].ints, model.encodeChat(messages(chat)))
            }
        }
    }

    @TestFactory
    fun states() = Golden.engine["states"].items.mapIndexed { number, state ->
        DynamicTest.dynamicTest("state $number") {
            Golden.model(state["model"].text).use { model ->
                session(model, state["session"]).use { session ->
                    session.restore(File(Golden.folder, "engine/${state["file"].text}"))
                    assertEquals(state["position"].value, session.position)
                    val got = collect(
                        session.generate(state["prompt_ids"].ints) {
                            append = true
                            temperature = 0f
                            maxTokens = state["max_tokens"].int
                            ignoreEos = true
                        },
                    )
                    assertArrayEquals(state["ids"].ints, got.ids)
                }
            }
        }
    }
}
