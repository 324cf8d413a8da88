package io.github.edgekit

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.MalformedURLException
import java.net.URL
import java.net.URLDecoder
import java.security.MessageDigest
import java.util.Base64
import java.util.concurrent.ConcurrentHashMap
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext

/** Bytes done, and bytes in all or 0 when unknown. */
fun interface DownloadProgress {
    fun onBytes(done: Long, total: Long)
}

/**
 * Packages on the device, in `directory` (an app's `filesDir`).
 *
 * A download is resumable, checked and atomic: bytes go to `NAME.part`, beside it `NAME.part.json` holds what they
 * belong to; a part is continued with `Range` and `If-Range` when the server gave a strong validator; there must be room
 * before the first byte; the SHA-256 of the address's `#sha256=…`, else of `Repr-Digest`, else of `URL.sha256`, is
 * checked; a finished file appears by rename. Cancelling keeps the part.
 */
class ModelStore @JvmOverloads constructor(
    val directory: File,
    internal val freeBytes: (File) -> Long = File::getUsableSpace,
    internal val retryMs: Long = 500,
) {
    /** Where the file of this address is, or will be. */
    fun file(url: String): File {
        val (address, _) = splitPin(url)
        val name = try {
            URLDecoder.decode(URL(address).path.substringAfterLast('/').replace("+", "%2B"), "UTF-8")
        } catch (_: MalformedURLException) {
            throw EdgekitException.InvalidArgument("$address is no address; it begins with https://")
        }
        return File(File(directory, sha256().digest(address.encodeToByteArray()).hex().take(16)), name.ifEmpty { "download" })
    }

    /**
     * The package at `url`, fetched when it is not here; `url` may end with `#sha256=` and the sum. Throws
     * [EdgekitException.IoError], [EdgekitException.InvalidFile] for a wrong sum, [EdgekitException.InvalidArgument].
     */
    suspend fun download(url: String, progress: DownloadProgress? = null): File {
        val (address, pin) = splitPin(url)
        val target = file(url)
        // In a scope of its own: who cancels need not wait for a read that hangs; the next download of this file does.
        val worker = CoroutineScope(Dispatchers.IO).async {
            onlyOne.computeIfAbsent(target) { Mutex() }.withLock {
                makeDirectory(target)
                val have = if (target.exists()) readState(target.beside(), address) else null
                if (have != null && pin != null && have.sha256 == pin) target else retry(address, target, have, pin, progress)
            }
        }
        try {
            return worker.await()
        } catch (cancelled: CancellationException) {
            worker.cancel()
            throw cancelled
        }
    }

    /** The file `name`, copied from `open` (an asset, for example) unless it is here already. */
    suspend fun install(name: String, open: () -> InputStream): File = withContext(Dispatchers.IO) {
        val target = File(directory, name)
        onlyOne.computeIfAbsent(target) { Mutex() }.withLock {
            if (!target.exists()) {
                makeDirectory(target)
                try {
                    open().use { source -> FileOutputStream(target.part()).use { write(source, it, target, null, Copied(0, 0, null)) } }
                    rename(target.part(), target)
                } catch (error: IOException) {
                    throw EdgekitException.IoError("$target: cannot write it: ${error.message}")
                } finally {
                    target.part().delete()
                }
            }
            target
        }
    }

    /** Takes a connection that breaks up again. */
    private suspend fun retry(url: String, target: File, have: State?, pin: String?, progress: DownloadProgress?): File {
        var failures = 0
        while (true) {
            val before = target.part().length()
            try {
                return fetch(url, target, have, pin, progress)
            } catch (error: Interrupted) {
                if (have != null && pin == null) return target // the server cannot be reached: what is here will do
                failures = if (target.part().length() <= before) failures + 1 else 1
                if (failures >= ATTEMPTS) {
                    throw EdgekitException.IoError("$url: ${error.message}; try again: it continues where it stopped")
                }
                currentCoroutineContext().ensureActive()
                delay(retryMs shl (failures - 1))
            }
        }
    }

    /** One request, from the first missing byte to the rename. */
    private suspend fun fetch(url: String, target: File, have: State?, pin: String?, progress: DownloadProgress?): File {
        val part = target.part()
        val state = readState(part.beside(), url)
        val offset = if (state?.validator != null) part.length() else 0
        val connection = connect(url)
        if (offset > 0) {
            connection.setRequestProperty("Range", "bytes=$offset-")
            connection.setRequestProperty("If-Range", state!!.validator)
        } else if (have?.etag != null && (pin == null || pin == have.sha256)) {
            connection.setRequestProperty("If-None-Match", have.etag)
        }
        try {
            return interruptible(connection::disconnect) {
                val status = connected { connection.responseCode }
                when {
                    status == 304 -> target
                    status == 416 && offset > 0 -> { // shorter now, or the part is all of it: find out from zero
                        part.delete()
                        fetch(url, target, null, pin, progress)
                    }
                    status in listOf(408, 425, 429) || status >= 500 -> throw Interrupted("the server answered $status")
                    status != 200 && status != 206 ->
                        throw EdgekitException.IoError("$url: the server answered $status ${connection.responseMessage ?: ""}")
                    else -> receive(connection, url, target, have, pin, state, offset, progress)
                }
            }
        } finally {
            connection.disconnect()
        }
    }

    private suspend fun receive(
        connection: HttpURLConnection,
        url: String,
        target: File,
        have: State?,
        pin: String?,
        before: State?,
        asked: Long,
        progress: DownloadProgress?,
    ): File {
        val part = target.part()
        val (first, total) = extent(connection)
        if (asked > 0 && connection.responseCode == 206 && (first != asked || before?.size !in listOf(null, total))) {
            part.delete() // not the bytes that were asked for: nothing here can be joined to them
            return fetch(url, target, have, pin, progress)
        }
        if (first != 0L && first != asked) {
            throw EdgekitException.IoError("$url: asked for the whole file, the server sent bytes from $first")
        }
        val expected = pin ?: digest(connection) ?: before?.sha256?.takeIf { first > 0 } ?: sumBeside(url)
        checkSpace(target, (total ?: 0) - first)
        val etag = connection.getHeaderField("ETag")
        val state = State(url, etag, connection.getHeaderField("Last-Modified"), total, expected)
        writeState(part.beside(), state)
        val sum = sha256()
        if (first > 0) part.inputStream().use { stream -> stream.forEachBlock { block, size -> sum.update(block, 0, size) } }
        try {
            FileOutputStream(part, first > 0).use {
                write(connected { connection.inputStream }, it, target, progress, Copied(first, total ?: 0, sum))
            }
        } catch (error: Interrupted) {
            throw error
        } catch (error: IOException) {
            throw EdgekitException.IoError("$target: cannot write it: ${error.message}; make room and try again")
        }
        if (total != null && part.length() < total) throw Interrupted("the connection broke after ${part.length()} of $total bytes")
        val found = sum.digest().hex()
        if (expected != null && found != expected) {
            part.delete()
            part.beside().delete()
            throw EdgekitException.InvalidFile(
                "$url: the downloaded bytes have SHA-256 $found, expected $expected; they were deleted. " +
                    "The file on the server changed or the transfer was damaged: check the sum, try again",
            )
        }
        writeState(target.beside(), state.copy(sha256 = found))
        rename(part, target)
        part.beside().delete()
        return target
    }

    private class Copied(var done: Long, val total: Long, val sum: MessageDigest?)

    private suspend fun write(from: InputStream, to: FileOutputStream, target: File, progress: DownloadProgress?, copied: Copied) {
        val block = ByteArray(BLOCK_BYTES)
        while (true) {
            val size = connected { from.read(block) }
            currentCoroutineContext().ensureActive()
            if (size < 0) break
            to.write(block, 0, size)
            copied.sum?.update(block, 0, size)
            copied.done += size
            progress?.onBytes(copied.done, copied.total)
            if (copied.total in 1 until copied.done) {
                throw EdgekitException.InvalidFile("$target: the server sent ${copied.done} bytes and had announced ${copied.total}")
            }
        }
        to.fd.sync()
    }

    private fun checkSpace(target: File, needed: Long) {
        val free = freeBytes(target.parentFile!!)
        if (needed > free) {
            throw EdgekitException.IoError("${target.parent}: $needed bytes are needed, $free are free; make room and try again")
        }
    }

    /** What the bytes in a part, or in a finished file, belong to. */
    private data class State(
        val url: String,
        val etag: String?,
        val lastModified: String?,
        val size: Long?,
        val sha256: String?,
    ) {
        /** A weak ETag does not promise equal bytes, so it cannot join two halves. */
        val validator: String? get() = etag?.takeUnless { it.startsWith("W/") } ?: lastModified
    }

    private fun readState(file: File, url: String): State? = try {
        val map = Json.read(file.readText()) as Map<*, *>
        State(
            map["url"] as String, map["etag"] as String?, map["last_modified"] as String?, map["size"] as Long?,
            map["sha256"] as String?,
        ).takeIf { it.url == url }
    } catch (_: IOException) {
        null
    } catch (_: RuntimeException) {
        null // not what writeState wrote
    }

    private fun writeState(file: File, state: State) {
        val temporary = File("$file.new")
        temporary.writeText(
            Json.write(
                mapOf(
                    "url" to state.url, "etag" to state.etag, "last_modified" to state.lastModified, "size" to state.size,
                    "sha256" to state.sha256,
                ),
            ),
        )
        rename(temporary, file)
    }

    private companion object {
        const val ATTEMPTS = 5
        const val TIMEOUT_MS = 30_000
        const val BLOCK_BYTES = 1 shl 17
        val onlyOne = ConcurrentHashMap<File, Mutex>() // two downloads that append to one part would mix it

        /** The connection broke; the part may be continued. */
        class Interrupted(message: String) : IOException(message)

        inline fun <T> connected(call: () -> T): T = try {
            call()
        } catch (error: IOException) {
            throw Interrupted("cannot reach the server: ${error.message ?: error::class.simpleName}")
        } catch (error: SecurityException) { // Android's, of an app without the permission
            throw EdgekitException.IoError(
                "the app may not use the network: ${error.message}; its manifest needs " +
                    "<uses-permission android:name=\"android.permission.INTERNET\" />",
            )
        }

        fun connect(url: String): HttpURLConnection = (URL(url).openConnection() as? HttpURLConnection)?.apply {
            connectTimeout = TIMEOUT_MS
            readTimeout = TIMEOUT_MS
            useCaches = false
            setRequestProperty("Accept-Encoding", "identity")
            setRequestProperty("User-Agent", "edgekit")
        } ?: throw EdgekitException.InvalidArgument("$url: edgekit fetches http and https only")

        fun splitPin(url: String): Pair<String, String?> {
            val pin = url.substringAfter('#', "")
            if (pin.isEmpty()) return url.substringBefore('#') to null
            val match = Regex("sha256=([0-9a-fA-F]{64})").matchEntire(pin) ?: throw EdgekitException.InvalidArgument(
                "the address ends with #$pin; a pinned sum reads #sha256= and 64 hexadecimal digits",
            )
            return url.substringBefore('#') to match.groupValues[1].lowercase()
        }

        /** (first byte sent, size of the whole file or null when the server does not say). */
        fun extent(connection: HttpURLConnection): Pair<Long, Long?> {
            if (connection.responseCode != 206) return 0L to connection.contentLengthLong.takeIf { it >= 0 }
            val range = connection.getHeaderField("Content-Range") ?: ""
            val match = Regex("""bytes (\d+)-(\d+)/(\d+|\*)""").matchEntire(range)
                ?: throw EdgekitException.IoError("the server sent a part with Content-Range '$range'")
            return match.groupValues[1].toLong() to match.groupValues[3].toLongOrNull()
        }

        /** RFC 9530: `Repr-Digest: sha-256=:BASE64:` is the sum of the whole file. */
        fun digest(connection: HttpURLConnection): String? =
            Regex("sha-256=:([A-Za-z0-9+/=]+):").find(connection.getHeaderField("Repr-Digest") ?: "")
                ?.let { Base64.getDecoder().decode(it.groupValues[1]).hex() }

        fun sumBeside(url: String): String? = try {
            val (path, query) = Regex("([^?]*)(.*)").matchEntire(url)!!.destructured
            val text = connect("$path.sha256$query").inputStream.use { stream ->
                ByteArray(4096).let { String(it, 0, stream.read(it).coerceAtLeast(0), Charsets.US_ASCII) }
            }
            Regex("^([0-9a-fA-F]{64})\\b").find(text.trim())?.groupValues?.get(1)?.lowercase()
        } catch (_: IOException) {
            null
        }

        fun makeDirectory(target: File) {
            val parent = target.parentFile!!
            if (!parent.isDirectory && !parent.mkdirs()) throw EdgekitException.IoError("$parent: cannot create this directory")
        }

        fun rename(from: File, to: File) {
            if (!from.renameTo(to)) throw EdgekitException.IoError("$to: cannot write it")
        }

        fun InputStream.forEachBlock(use: (ByteArray, Int) -> Unit) {
            val block = ByteArray(BLOCK_BYTES)
            while (true) {
                val size = read(block)
                if (size < 0) return
                use(block, size)
            }
        }

        fun File.part() = File("$this.part")

        fun File.beside() = File("$this.json")

        fun sha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

        fun ByteArray.hex() = joinToString("") { "%02x".format(it) }
    }
}
