import Glibc

/// Holds the processes of a cgroup still for a moment, for a thread that has other work meanwhile: asked for, looked at,
/// ended.
///
/// Nothing waits on `cgroup.events`: the kernel tells of changes at most every 10 ms.
package struct Stillness: Sendable {
    private let state: Descriptor
    private let events: Descriptor
    private let path: String

    /// Of the processes of a cgroup2 directory.
    package init(cgroup directory: String) throws(SyscallError) {
        path = directory + "/cgroup.freeze"
        state = try Descriptor(open: path, O_RDWR)
        events = try Descriptor(open: directory + "/cgroup.events", O_RDONLY)
    }

    /// Asks for it; false where somebody else holds the processes still, who will let them go.
    package func begin() throws(SyscallError) -> Bool {
        guard text(of: state).first != UInt8(ascii: "1") else { return false }
        try write("1")
        return true
    }

    /// Whether no process runs any more.
    package var isReached: Bool {
        String(decoding: text(of: events), as: UTF8.self).split(separator: "\n").contains("frozen 1")
    }

    /// Lets them go on, after `begin` has said that it was this that stops them.
    package func end() throws(SyscallError) {
        try write("0")
    }

    private func text(of file: Descriptor) -> ArraySlice<UInt8> {
        var bytes = [UInt8](repeating: 0, count: 256)
        return bytes[..<max(0, pread(file.raw, &bytes, bytes.count, 0))]
    }

    private func write(_ value: String) throws(SyscallError) {
        let bytes = Array(value.utf8)
        try syscall("write", path) { pwrite(state.raw, bytes, bytes.count, 0) }
    }
}
