package io.github.edgekit

import java.io.File
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** 1,000 sessions, each begun and left in the middle: a third closed, a third dropped, a third cancelled first. */
internal class SoakTest {
    private fun residentKib() = File("/proc/self/status").readLines().first { it.startsWith("VmRSS") }.filter { it.isDigit() }.toLong()

    private fun settle() = repeat(3) {
        System.gc()
        Thread.sleep(100)
    }

    @Test
    fun `memory stays flat`() = runBlocking {
        var before = 0L
        repeat(1000) { number ->
            if (number == 300) {
                settle()
                before = residentKib()
            }
            val model = Golden.model("text.edge")
            val session = model.session { window = 256 }
            session.generate("Hello") { ignoreEos = true }.take(3).toList()
            if (number % 3 == 2) session.cancel()
            if (number % 3 != 1) {
                session.close()
                model.close()
            } else if (number % 50 == 1) {
                System.gc()
            }
        }
        settle()
        val grown = residentKib() - before
        println("1,000 sessions: $grown KiB more resident than after the first 300")
        assertTrue(grown < 30_000, "$grown KiB") // 700 sessions and their models would hold 140 MB
    }
}
