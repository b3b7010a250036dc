import CPageStore

/// Packs the chunks of a cut's streams for the wire (zstd, level 1: CRIU's images shrink to a tenth).
package enum ChunkPacking {
    /// The longest chunk, unpacked.
    package static let limit = 4 << 20

    /// A chunk as it travels.
    package static func packed(_ chunk: [UInt8]) -> [UInt8] {
        let capacity = smi_chunk_bound(chunk.count)
        return [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            count = smi_chunk_pack(chunk, chunk.count, buffer.baseAddress, capacity)
        }
    }

    /// The chunk again; nil where the bytes are none, or longer than ``limit``.
    package static func unpacked(_ packed: [UInt8]) -> [UInt8]? {
        let length = smi_chunk_length(packed, packed.count, limit)
        guard length >= 0 else { return nil }
        var isWhole = false
        let chunk = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            isWhole = smi_chunk_unpack(packed, packed.count, buffer.baseAddress, length) == 0
            count = isWhole ? length : 0
        }
        return isWhole ? chunk : nil
    }
}
