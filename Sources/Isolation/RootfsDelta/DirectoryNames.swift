import Glibc
import LinuxSystem

extension Directories {
    /// Names in an open directory as bytes, which need not be UTF-8, without `.` and `..`; in no order.
    static func names(in directory: Descriptor) -> [[UInt8]] {
        let raw = openat(directory.raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0, let handle = fdopendir(raw) else { return [] }
        defer { closedir(handle) }
        var names: [[UInt8]] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [UInt8(ascii: ".")] && name != [UInt8(ascii: "."), UInt8(ascii: ".")] { names.append(name) }
        }
        return names
    }
}
