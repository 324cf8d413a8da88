package io.github.edgekit

/** What a generation tells. The last event is [Done]. */
sealed class Event {
    /** New text in whole characters, possibly none yet, and the tokens sampled since the last event. */
    class Text(@JvmField val text: String, @JvmField val tokens: IntArray) : Event() {
        override fun toString(): String = "Text($text)"
    }

    /** The positions from [first] on, [count] of them, left the cache and can no longer be attended to. */
    data class Evicted(@JvmField val first: Long, @JvmField val count: Long) : Event()

    data class Done(@JvmField val finish: Finish, @JvmField val statistics: Statistics) : Event()
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
    val tokensPerSecond: Double get() = if (decodeMs > 0) 1000 * generatedTokens / decodeMs else 0.0
}
