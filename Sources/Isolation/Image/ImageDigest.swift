import Crypto
import Glibc
import LinuxSystem

/// SHA-256 of a file.
enum ImageDigest {
    /// Hexadecimal digest and length of a file; reads it in pieces of 1 MB.
    static func of(_ path: String) throws -> (hex: String, size: Int64) {
        let file = try Descriptor(open: path, O_RDONLY)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var hash = SHA256()
        var size: Int64 = 0
        while true {
            let count = try syscall("read", path) { read(file.raw, buffer.baseAddress, buffer.count) }
            if count == 0 { break }
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            size += Int64(count)
        }
        let digits = Array("0123456789abcdef")
        let hex = hash.finalize().flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return (String(hex), size)
    }
}
