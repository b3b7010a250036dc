import CPageStore
import Glibc

/// A file in memory that remembers every write, so that a test can stop it at any byte.
///
/// Used by one test on one thread.
final class RecordedDisk {
    enum Operation {
        case write(offset: Int, bytes: [UInt8])
        case sync
        case punch(Range<Int>)
        case truncate(Int)
    }

    var bytes: [UInt8]
    private(set) var operations: [Operation] = []
    /// Writes fail with ENOSPC once this many bytes have been written.
    var space = Int.max

    init(_ bytes: [UInt8] = []) {
        self.bytes = bytes
    }

    /// Applies one operation, a write only up to `limit` bytes.
    static func apply(_ operation: Operation, to bytes: inout [UInt8], limit: Int = .max) {
        switch operation {
        case .write(let offset, let data):
            let part = data.prefix(limit)
            if bytes.count < offset + part.count {
                bytes.append(contentsOf: repeatElement(0, count: offset + part.count - bytes.count))
            }
            bytes.replaceSubrange(offset..<offset + part.count, with: part)
        case .sync: break
        case .punch(let range):
            for i in range.clamped(to: 0..<bytes.count) { bytes[i] = 0 }
        case .truncate(let size):
            if size <= bytes.count {
                bytes.removeLast(bytes.count - size)
            } else {
                bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
            }
        }
    }

    fileprivate func perform(_ operation: Operation) -> Bool {
        if case .write(_, let data) = operation {
            guard data.count <= space else {
                errno = ENOSPC
                return false
            }
            space -= data.count
        }
        operations.append(operation)
        Self.apply(operation, to: &bytes)
        return true
    }

    /// The calls, for a store to own; the disk outlives the store.
    var io: smi_ps_io {
        smi_ps_io(
            context: Unmanaged.passRetained(self).toOpaque(),
            pread: { disk(of: $0).read($1, $2, $3) },
            pwrite: { context, buffer, length, offset in
                let data = [UInt8](UnsafeRawBufferPointer(start: buffer, count: length))
                return disk(of: context).perform(.write(offset: Int(offset), bytes: data)) ? length : -1
            },
            sync: { disk(of: $0).perform(.sync) ? 0 : -1 },
            punch: { disk(of: $0).perform(.punch(Int($1)..<Int($1 + $2))) ? 0 : -1 },
            truncate: { disk(of: $0).perform(.truncate(Int($1))) ? 0 : -1 },
            size: { Int64(disk(of: $0).bytes.count) },
            close: { context in
                if let context { Unmanaged<RecordedDisk>.fromOpaque(context).release() }
            }
        )
    }

    fileprivate func read(_ buffer: UnsafeMutableRawPointer?, _ length: Int, _ offset: UInt64) -> Int {
        guard let buffer, Int(offset) < bytes.count else { return 0 }
        let count = min(length, bytes.count - Int(offset))
        bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            buffer.copyMemory(from: start + Int(offset), byteCount: count)
        }
        return count
    }
}

private func disk(of context: UnsafeMutableRawPointer?) -> RecordedDisk {
    guard let context else { preconditionFailure("a disk's call without its disk") }
    return Unmanaged<RecordedDisk>.fromOpaque(context).takeUnretainedValue()
}
