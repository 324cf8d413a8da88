/** `edgekit_status_name` of what went wrong. */
export type ErrorCode =
    | "invalid_argument"
    | "invalid_file"
    | "unsupported"
    | "out_of_memory"
    | "over_budget"
    | "io_error"
    | "template_error"
    | "cancelled"
    | "context_full"
    | "buffer_too_small"
    | "internal";

/** Every error of this package. The message says what is wrong, the value seen, and what to do. */
export class EdgekitError extends Error {
    override readonly name = "EdgekitError";

    constructor(
        readonly code: ErrorCode,
        message: string,
        /** With `over_budget`: the smallest memory budget that would do, in bytes. */
        readonly neededBytes?: number,
    ) {
        super(message);
    }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
    return error instanceof Error ? error.message : String(error);
}
