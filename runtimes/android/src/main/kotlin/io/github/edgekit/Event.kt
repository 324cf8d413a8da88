package io.github.edgekit

/** What a generation tells. The last event is [Done]. */
sealed class Event {
    /** New text in whole characters, possibly none yet, and the tokens sampled since the last event. */
    class Text(@JvmField val text: String, @JvmField val tokens: IntArray) : Event() {
        override fun toString(): String = "Text($text)"
    }

    /** The positions from [first] on, [count] of them, left the cache and can no longer be attended to. */
    data class Evicted(@JvmField val first: Long, @JvmField val count: Long) : Event()

    /** Why the generation ended, and what it did. */
    data class Done(
        @JvmField val finish: Finish,
        @JvmField val stats: Statistics,
        /** Draws the same text again. */
        @JvmField val seed: Long,
        /** With [Finish.STOP]: tokens of the stop that left the cache again, so that it holds what the text says. */
        @JvmField val takenBack: Int,
    ) : Event()
}

/** Why a generation ended. */
enum class Finish { EOS, LENGTH, STOP, CANCELLED, CONTEXT_FULL }

data class Statistics(
    /** Tokens of the prompt, and how many of them the cache held already. */
    @JvmField val promptTokens: Int,
    @JvmField val cachedTokens: Int,
    @JvmField val generatedTokens: Int,
    /** Tokens that speculation proposed, and how many of them were right. */
    @JvmField val draftedTokens: Int,
    @JvmField val acceptedTokens: Int,
    @JvmField val prefillMs: Double,
    /** From the beginning to the first token. */
    @JvmField val firstTokenMs: Double,
    @JvmField val decodeMs: Double,
) {
    /** Tokens of the prompt computed per second, cached ones not counted; 0 when there were none. */
    val prefillTokS: Double get() = rate(promptTokens - cachedTokens, prefillMs)

    /** Tokens per second after the first, which prefill pays for; 0 when there was one at most. */
    val decodeTokS: Double get() = rate(generatedTokens - 1, decodeMs)

    private fun rate(tokens: Int, ms: Double) = if (tokens > 0 && ms > 0) 1000 * tokens / ms else 0.0
}
