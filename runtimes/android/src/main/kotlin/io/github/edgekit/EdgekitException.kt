package io.github.edgekit

/**
 * What went wrong: the message says what, the value seen, and what to do.
 *
 *     EdgekitException
 *       InvalidArgument   a value that was passed is out of range, or the object is closed
 *       InvalidFile       bytes that are not what they should be: truncated, corrupt, a wrong SHA-256
 *       Unsupported       a version, layout or feature that this build does not have
 *       OutOfMemory       the system refused an allocation
 *       OverBudget        the memory budget is too small; neededBytes would do
 *       IoError           a file or a connection failed, or the disk is full
 *       TemplateError     the chat template refused the messages
 *       Cancelled         a call was cancelled before it had a result
 *       ContextFull       the cache is full and onFull is OnFull.ERROR
 *       Internal          a defect of edgekit; please report it
 */
sealed class EdgekitException(message: String) : RuntimeException(message) {
    class InvalidArgument(message: String) : EdgekitException(message)
    class InvalidFile(message: String) : EdgekitException(message)
    class Unsupported(message: String) : EdgekitException(message)
    class OutOfMemory(message: String) : EdgekitException(message)
    class OverBudget(message: String, val neededBytes: Long) : EdgekitException(message)
    class IoError(message: String) : EdgekitException(message)
    class TemplateError(message: String) : EdgekitException(message)
    class Cancelled(message: String) : EdgekitException(message)
    class ContextFull(message: String) : EdgekitException(message)
    class Internal(message: String) : EdgekitException(message)

    internal companion object {
        /** Of an `edgekit_status`. */
        fun of(status: Int, message: String, neededBytes: Long): EdgekitException = when (status) {
            1 -> InvalidArgument(message)
            2 -> InvalidFile(message)
            3 -> Unsupported(message)
            4 -> OutOfMemory(message)
            5 -> OverBudget(message, neededBytes)
            6 -> IoError(message)
            7 -> TemplateError(message)
            8 -> Cancelled(message)
            9 -> ContextFull(message)
            else -> Internal(message)
        }
    }
}
