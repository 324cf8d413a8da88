package io.github.edgekit

/** As much JSON as the messages of a chat and the notes beside a download need: maps, lists, strings, numbers, booleans, null. */
internal object Json {
    fun write(value: Any?): String = when (value) {
        null, is Number, is Boolean -> value.toString()
        is String -> quote(value)
        is List<*> -> value.joinToString(",", "[", "]") { write(it) }
        is Map<*, *> -> value.entries.joinToString(",", "{", "}") { "${quote(it.key.toString())}:${write(it.value)}" }
        else -> throw IllegalArgumentException("JSON has no ${value::class}")
    }

    private fun quote(text: String): String = buildString {
        append('"')
        for (char in text) {
            when {
                char == '"' || char == '\\' -> append('\\').append(char)
                char < ' ' -> append("\\u").append(char.code.toString(16).padStart(4, '0'))
                else -> append(char)
            }
        }
        append('"')
    }

    /** Whole numbers as Long, others as Double. Throws IllegalArgumentException. */
    fun read(text: String): Any? = Reader(text).run {
        value().also { skip(); if (at < text.length) fail("the end") }
    }

    private class Reader(val text: String) {
        var at = 0

        fun value(): Any? {
            skip()
            return when (peek()) {
                '{' -> buildMap { items('}') { val key = string(); expect(':'); put(key, value()) } }
                '[' -> buildList { items(']') { add(value()) } }
                '"' -> string()
                else -> literal()
            }
        }

        private fun items(close: Char, item: () -> Unit) {
            at++
            skip()
            if (peek() == close) { at++; return }
            while (true) {
                skip()
                item()
                skip()
                if (peek() == close) { at++; return }
                expect(',')
            }
        }

        private fun string(): String = buildString {
            expect('"')
            while (peek() != '"') {
                val char = text[at++]
                if (char != '\\') { append(char); continue }
                when (val escape = peek()) {
                    'u' -> { append(text.substring(at + 1, at + 5).toInt(16).toChar()); at += 4 }
                    'n' -> append('\n')
                    't' -> append('\t')
                    'r' -> append('\r')
                    'b' -> append('\b')
                    'f' -> append('\u000c')
                    '"', '\\', '/' -> append(escape)
                    else -> fail("an escape")
                }
                at++
            }
            at++
        }

        private fun literal(): Any? {
            val start = at
            while (at < text.length && text[at] !in ",]} \n\r\t") at++
            return when (val word = text.substring(start, at)) {
                "null" -> null
                "true" -> true
                "false" -> false
                else -> word.toLongOrNull() ?: word.toDoubleOrNull() ?: fail("a value")
            }
        }

        fun skip() { while (at < text.length && text[at] in " \n\r\t") at++ }

        private fun peek(): Char = text.getOrNull(at) ?: fail("more")

        private fun expect(char: Char) {
            skip()
            if (peek() != char) fail("'$char'")
            at++
        }

        fun fail(wanted: String): Nothing = throw IllegalArgumentException("JSON: expected $wanted at character $at")
    }
}
