package io.github.edgekit

import java.io.File
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.runBlocking

/** tests/golden, and short ways through its JSON. */
internal object Golden {
    val folder = File(System.getProperty("edgekit.golden") ?: error("pass -Dedgekit.golden=<tests/golden>"))
    val engine = read("engine/cases.json")
    val download = read("download.json")

    fun model(name: String): Model = Model.open(File(folder, "engine/$name"))

    private fun read(name: String) = Node(Json.read(File(folder, name).readText()))
}

internal class Node(val value: Any?) {
    operator fun get(name: String): Node = Node((value as Map<*, *>)[name])
    operator fun contains(name: String): Boolean = name in (value as Map<*, *>)
    val items: List<Node> get() = (value as List<*>).map(::Node)
    val entries: Map<String, Node> get() = (value as Map<*, *>).entries.associate { it.key as String to Node(it.value) }
    val isNull: Boolean get() = value == null
    val text: String get() = value as String
    val int: Int get() = (value as Long).toInt()
    val float: Float get() = (value as Number).toFloat()
    val ints: IntArray get() = items.map { it.int }.toIntArray()
}

internal class Generated(val text: String, val ids: IntArray, val evicted: Long, val done: Event.Done?)

internal fun collect(events: Flow<Event>): Generated = runBlocking {
    val text = StringBuilder()
    val ids = mutableListOf<Int>()
    var evicted = 0L
    var done: Event.Done? = null
    events.collect {
        when (it) {
            is Event.Text -> { text.append(it.text); ids.addAll(it.tokens.asList()) }
            is Event.Evicted -> evicted += it.count
            is Event.Done -> done = it
        }
    }
    Generated(text.toString(), ids.toIntArray(), evicted, done)
}
