import CEdgeKit

/// Text to token ids and back, as the model's own tokenizer does it.
public struct Tokenizer: Sendable {
    let model: Model  // keeps the mapped tables

    public let vocabSize: Int
    public let bosId: Int32?
    /// The first of the model's end-of-sequence ids.
    public let eosId: Int32?
    public let padId: Int32?

    private var native: OpaquePointer? { edgekit_model_tokenizer(model.native) }

    init?(_ model: Model) {
        guard let native = edgekit_model_tokenizer(model.native) else { return nil }
        var info = edgekit_tokenizer_info()
        info.struct_size = MemoryLayout<edgekit_tokenizer_info>.size
        guard edgekit_tokenizer_get_info(native, &info, nil) == EDGEKIT_OK else { return nil }
        self.model = model
        vocabSize = Int(info.vocab_size)
        bosId = info.bos_id < 0 ? nil : info.bos_id
        eosId = info.eos_id < 0 ? nil : info.eos_id
        padId = info.pad_id < 0 ? nil : info.pad_id
    }

    /// - Parameters:
    ///   - addSpecialTokens: add what the tokenizer's post-processor adds (BOS, …)
    ///   - parseSpecial: recognise special tokens that are written in the text
    public func encode(
        _ text: String, addSpecialTokens: Bool = true, parseSpecial: Bool = true
    ) throws(EdgeKitError) -> [Int32] {
        let flags = promptFlags(addSpecial: addSpecialTokens, parseSpecial: parseSpecial)
        return try fill(Int32(0)) { ids, capacity, count, error in
            text.withBytes { edgekit_tokenizer_encode(native, $0, $1, flags, ids, capacity, count, error) }
        }
    }

    /// Bytes that are not UTF-8 become U+FFFD.
    public func decode(_ ids: [Int32], skipSpecialTokens: Bool = false) throws(EdgeKitError) -> String {
        let bytes = try fill(CChar(0)) { text, capacity, size, error in
            ids.withUnsafeBufferPointer {
                edgekit_tokenizer_decode(
                    native, $0.baseAddress, $0.count, skipSpecialTokens ? 1 : 0, text, capacity, size, error)
            }
        }
        return String(bytes: bytes)
    }

    /// The raw bytes of one token, perhaps a part of a character.
    public func tokenBytes(_ id: Int32) throws(EdgeKitError) -> [UInt8] {
        var span = edgekit_span()
        try check { edgekit_tokenizer_token_bytes(native, id, &span, $0) }
        return Array(UnsafeRawBufferPointer(start: span.data, count: span.size))
    }

    /// The id of a token's exact text.
    public func tokenToId(_ token: String) -> Int32? {
        let id = token.withBytes { edgekit_tokenizer_token_to_id(native, $0, $1) }
        return id < 0 ? nil : id
    }
}

func promptFlags(addSpecial: Bool, parseSpecial: Bool) -> UInt32 {
    (addSpecial ? UInt32(EDGEKIT_ADD_SPECIAL) : 0) | (parseSpecial ? UInt32(EDGEKIT_PARSE_SPECIAL) : 0)
}
