import Foundation
import LinuxSystem

/// A named pipe by which commands tell the supervisor that the lab's record has changed.
enum WakeUp {
    /// Makes the pipe and opens it for the supervisor.
    ///
    /// Opened for writing too, so that it never reads an end of file.
    static func listen(_ path: String) throws(SyscallError) -> Descriptor {
        if mkfifo(path, 0o600) != 0, errno != EEXIST { throw SyscallError("mkfifo", subject: path) }
        return try Descriptor(open: path, O_RDWR | O_NONBLOCK)
    }

    /// Takes everything that is in the pipe.
    static func drain(_ pipe: Descriptor) {
        var bytes = [UInt8](repeating: 0, count: 256)
        while read(pipe.raw, &bytes, bytes.count) > 0 {}
    }

    /// Wakes the supervisor up; false when none listens.
    @discardableResult
    static func send(_ path: String) -> Bool {
        // Without a reader this does not wait, it fails (ENXIO).
        guard let pipe = try? Descriptor(open: path, O_WRONLY | O_NONBLOCK) else { return false }
        return write(pipe.raw, [1] as [UInt8], 1) == 1
    }
}
