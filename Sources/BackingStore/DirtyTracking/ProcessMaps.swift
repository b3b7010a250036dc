import CLinux
import Glibc
import LinuxSystem

/// One mapping of a process, from /proc/PID/maps.
package struct Mapping: Sendable, Equatable {
    /// Addresses, in bytes.
    package let range: Range<UInt64>
    /// Offset in the mapped object, in bytes.
    package let offset: UInt64
    /// Device (`major:minor`) and inode of the mapped object; inode 0 for anonymous memory.
    package let device: UInt64
    package let inode: UInt64
    package let isShared: Bool
    /// The kernel's own (vdso and its data) and huge pages: not carried by backing files.
    package let isSpecial: Bool
    /// Whether the processor may take instructions from it.
    package let isExecutable: Bool
    /// The name in the listing; empty for anonymous memory.
    package let name: String

    /// Whether a backing file carries it page by page: private memory, anonymous or written over a file.
    package var isPrivate: Bool { !isShared && !isSpecial }

    init(_ raw: smi_vma, text: UnsafePointer<CChar>) {
        range = raw.start..<raw.end
        offset = raw.offset
        device = UInt64(raw.major) << 32 | UInt64(raw.minor)
        inode = raw.inode
        isShared = raw.flags & SMI_VMA_SHARED.rawValue != 0
        isSpecial = raw.flags & SMI_VMA_SPECIAL.rawValue != 0
        isExecutable = raw.flags & SMI_VMA_EXECUTE.rawValue != 0
        // Names matter for shared memory only; text of thousands of libraries does not.
        name = isShared && raw.name_offset != 0 ? String(cString: text + Int(raw.name_offset)) : ""
    }

    /// The mappings of a process in address order; empty for a zombie.
    package static func all(of pid: pid_t) throws(SyscallError) -> [Mapping] {
        var raw: UnsafeMutablePointer<smi_vma>?
        var text: UnsafeMutablePointer<CChar>?
        let count = smi_maps_read(pid, &raw, &text)
        guard count >= 0 else {
            throw SyscallError("read", code: Int32(-count), subject: "/proc/\(pid)/maps")
        }
        defer { smi_maps_free(raw, text) }
        guard let raw, let text else { return [] }
        return (0..<count).map { Mapping(raw[$0], text: text) }
    }

    /// Whether there is a mapping of exactly these addresses; `maps` is /proc/PID/maps, opened.
    static func exists(_ range: Range<UInt64>, in maps: Descriptor) -> Bool {
        smi_maps_has(maps.raw, range.lowerBound, range.upperBound) == 1
    }
}
