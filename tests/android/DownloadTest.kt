package io.github.edgekit

import java.io.File
import java.net.ServerSocket
import java.net.Socket
import java.nio.file.Files
import kotlin.concurrent.thread
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

private val SIZE = Golden.download["size"].int

private fun body(version: String, first: Int = 0, last: Int = SIZE) = ByteArray(last - first) {
    val i = it + first
    (if (version == "a") (31 * i + 7) % 251 else (17 * i + 3) % 241).toByte()
}

/** Every rule of tests/golden/download.json against a scripted server. */
internal class DownloadTest {
    /** Answers `exchanges` in order; `complaints` holds what was not as written. */
    private class ScriptedServer(exchanges: List<Node>, private val sumBeside: Node) : AutoCloseable {
        val exchanges = ArrayDeque(exchanges)
        val complaints = mutableListOf<String>()
        private val socket = ServerSocket(0)
        private var closedWithoutAnswer = false
        val url = "http://127.0.0.1:${socket.localPort}/models/m%C3%A9.edge"
        private val server = thread {
            while (true) {
                val client = try { socket.accept() } catch (_: java.io.IOException) { break }
                try { client.use(::answer) } catch (error: Exception) { complaints += error.toString() }
            }
        }

        private fun answer(client: Socket) {
            val lines = generateSequence(client.getInputStream().bufferedReader()::readLine).takeWhile { it.isNotEmpty() }.toList()
            val headers = lines.drop(1).associate { it.substringBefore(':').lowercase() to it.substringAfter(": ") }
            val out = client.getOutputStream()
            fun head(status: Int, more: Map<String, String>) {
                val fields = more.entries.joinToString("") { "${it.key}: ${it.value}\r\n" }
                out.write("HTTP/1.1 $status Said so\r\nConnection: close\r\n$fields\r\n".toByteArray())
            }
            if (".sha256 " in lines[0]) {
                if (sumBeside.isNull) return head(404, mapOf("Content-Length" to "0"))
                val text = "${Golden.download["sha256"][sumBeside.text].text}  m.edge\n"
                head(200, mapOf("Content-Length" to text.length.toString()))
                return out.write(text.toByteArray())
            }
            val exchange = exchanges.firstOrNull() ?: run { complaints += "a request too many: $headers"; return head(500, mapOf()) }
            for ((name, value) in exchange["request"].entries) {
                if (headers[name.lowercase()] != value.value) complaints += "$name is ${headers[name.lowercase()]}, expected ${value.value}"
            }
            val response = exchange["response"]
            // HttpURLConnection itself asks once more when a connection closes without an answer.
            if (response.isNull && !closedWithoutAnswer) { closedWithoutAnswer = true; return }
            closedWithoutAnswer = false
            exchanges.removeFirst()
            if (response.isNull) return
            head(response["status"].int, response["headers"].entries.mapValues { it.value.text })
            val body = response["body"]
            if (!body.isNull) out.write(body(body["version"].text, body["first"].int, body["last"].int))
        }

        override fun close() {
            socket.close()
            server.join()
        }
    }

    private val folder = Files.createTempDirectory("models").toFile()

    @AfterEach
    fun delete() { folder.deleteRecursively() }

    private fun prepare(before: Node, url: String, target: File) {
        target.parentFile!!.mkdirs()
        if ("part" in before) {
            val part = before["part"]
            File("$target.part").writeBytes(body(part["version"].text, 0, part["bytes"].int))
            val state = listOf("etag", "last_modified", "size").associateWith { part[it].value }
            File("$target.part.json").writeText(Json.write(state + mapOf("url" to url, "sha256" to null)))
        }
        if ("file" in before) {
            val file = before["file"]
            target.writeBytes(body(file["version"].text))
            val sum = Golden.download["sha256"][file["version"].text].text
            val state = mapOf("url" to url, "etag" to file["etag"].text, "last_modified" to null, "size" to SIZE, "sha256" to sum)
            File("$target.json").writeText(Json.write(state))
        }
    }

    @TestFactory
    fun cases() = Golden.download["cases"].items.map { case ->
        DynamicTest.dynamicTest(case["name"].text) {
            folder.deleteRecursively()
            ScriptedServer(case["exchanges"].items, case["sum_beside"]).use { server ->
                val free: (File) -> Long = { if ("free_bytes" in case) case["free_bytes"].value as Long else Long.MAX_VALUE }
                val store = ModelStore(folder, free, retryMs = 0)
                val target = store.file(server.url)
                assertEquals("mé.edge", target.name)
                if ("before" in case) prepare(case["before"], server.url, target)
                val pin = if ("pin" in case) "#sha256=${Golden.download["sha256"][case["pin"].text].text}" else ""
                val result = case["result"]
                val got = runCatching { runBlocking { store.download(server.url + pin) } }
                if ("error" in result) {
                    val error = got.exceptionOrNull()
                    val (type, words) = when (result["error"].text) {
                        "wrong_hash" -> EdgekitException.InvalidFile::class to "SHA-256"
                        "no_space" -> EdgekitException.IoError::class to "are free"
                        "refused" -> EdgekitException.IoError::class to "404"
                        else -> EdgekitException.IoError::class to "try again"
                    }
                    assertTrue(type.isInstance(error) && words in error!!.message!!, "$error")
                    assertFalse(target.exists())
                } else {
                    assertEquals(target, got.getOrThrow())
                    assertArrayEquals(body(result["version"].text), target.readBytes())
                }
                assertEquals(result["part_bytes"].int.toLong(), File("$target.part").length())
                assertEquals(listOf<String>(), server.complaints)
                assertTrue(server.exchanges.isEmpty(), "${server.exchanges.size} exchanges were not asked for")
            }
        }
    }

    @Test
    fun `cancelling keeps the part`() = runBlocking {
        ServerSocket(0).use { socket ->
            val server = thread {
                socket.accept().use { client ->
                    client.getInputStream().read(ByteArray(4096))
                    val head = "HTTP/1.1 200 OK\r\nETag: \"a1\"\r\nContent-Length: $SIZE\r\nRepr-Digest: sha-256=:AIVJ2U+nHnoKSD2EOA0FqSOksY55uh+KjdrJI5VtMu8=:\r\n\r\n"
                    client.getOutputStream().write(head.toByteArray() + body("a", 0, 400))
                    try { Thread.sleep(Long.MAX_VALUE) } catch (_: InterruptedException) { } // the rest does not come
                }
            }
            val store = ModelStore(folder)
            val url = "http://127.0.0.1:${socket.localPort}/m.edge"
            val job = async(Dispatchers.Default) { store.download(url) }
            val part = File("${store.file(url)}.part")
            while (part.length() < 400) Thread.sleep(5)
            job.cancelAndJoin()
            assertEquals(400, part.length())
            server.interrupt()
        }
    }

    @Test
    fun `progress counts bytes`() = runBlocking {
        val case = Golden.download["cases"].items[0]
        ScriptedServer(case["exchanges"].items, Node(null)).use { server ->
            var last = 0L to 0L
            ModelStore(folder).download(server.url) { done, total -> last = done to total }
            assertEquals(SIZE.toLong() to SIZE.toLong(), last)
        }
    }

    @Test
    fun `an asset is installed once`() = runBlocking {
        val store = ModelStore(folder)
        var opened = 0
        repeat(2) {
            val file = store.install("m.edge") { opened++; body("a").inputStream() }
            assertArrayEquals(body("a"), file.readBytes())
        }
        assertEquals(1, opened)
        assertThrows(EdgekitException.IoError::class.java) {
            runBlocking { store.install("other.edge") { throw java.io.IOException("no such asset") } }
        }
        assertEquals(listOf("m.edge"), folder.list()!!.asList())
    }

    @Test
    fun `malformed addresses are refused`() {
        val store = ModelStore(folder)
        for (url in listOf("ftp://host/m.edge", "no address", "https://host/m.edge#sha1=00", "https://host/m.edge#sha256=12")) {
            assertThrows(EdgekitException.InvalidArgument::class.java) { runBlocking { store.download(url) } }
        }
    }
}
