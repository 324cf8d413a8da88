package io.github.edgekit

import java.io.File
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** 1,000 sessions, each begun and left in the middle: a third closed, a third dropped, a third cancelled first. */
internal class SoakTest {
    private val cycles = Integer.getInteger("edgekit.soak.cycles", 1000)

    /** 1 under qemu, which keeps some memory of each thread that has ended. */
    private val threads: Int? = Integer.getInteger("edgekit.soak.threads")
    private fun residentKib() = File("/proc/self/status").readLines().first { it.startsWith("VmRSS") }.filter { it.isDigit() }.toLong()

    private fun settle() = repeat(3) {
        System.gc()
        Thread.sleep(100)
    }

    @Test
    fun `memory stays flat`() = runBlocking {
        var before = 0L
        repeat(cycles) { number ->
            if (number == cycles / 3) {
                settle()
                before = residentKib()
            }
            val model = Model.open(File(Golden.folder, "engine/text.edge")) { threads = this@SoakTest.threads }
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
        println("$cycles sessions: $grown KiB more resident than after the first ${cycles / 3}")
        assertTrue(grown < 30_000, "$grown KiB") // 667 sessions and their models would hold 130 MB
    }
}
