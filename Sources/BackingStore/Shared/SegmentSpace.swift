import CLinux
import Glibc
import LinuxSystem

/// An IPC namespace without processes, in which System V segments are made before a restore: each with the identifier
/// and the key that it had, as neither can be given to it later.
struct SegmentSpace: Sendable {
    /// What keeps it; nil as long as it never had a segment.
    private(set) var namespace: Descriptor?

    /// Makes a segment; gives its memory.
    mutating func add(_ shape: SharedShape) throws(SyscallError) -> Descriptor {
        // The kernel names the memory after the key: /SYSV and eight hexadecimal digits (ipc/shm.c).
        guard let id = Int32(exactly: shape.object.inode), let key = UInt32(shape.name.dropFirst(5), radix: 16) else {
            throw SyscallError("shmget", code: EINVAL, subject: shape.name)
        }
        let space: Descriptor
        if let namespace {
            space = namespace
        } else {
            let raw = smi_segments_start()
            guard raw >= 0 else { throw SyscallError("unshare", code: -raw, subject: "IPC namespace") }
            space = Descriptor(owning: raw)
            namespace = space
        }
        let memory = smi_segments_add(space.raw, id, Int32(bitPattern: key), shape.size)
        guard memory >= 0 else { throw SyscallError("shmget", code: -memory, subject: shape.name) }
        return Descriptor(owning: memory)
    }

    /// Removes a segment; returns whether it is gone.
    func remove(_ object: SharedObject) -> Bool {
        guard let namespace, let id = Int32(exactly: object.inode) else { return false }
        return smi_segments_remove(namespace.raw, id) == 0
    }
}
