import Glibc
import LinuxSystem

/// Keeps a second daemon from opening the same store: a lock (flock(2)) that dies with its process.
final class StoreLock: Sendable {
    private let descriptor: Descriptor

    /// Takes the lock at once or not at all.
    init(path: String) throws(StoreError) {
        let descriptor: Descriptor
        do {
            descriptor = try Descriptor(open: path, O_RDWR | O_CREAT)
        } catch {
            throw StoreError.unavailable(
                cause: "the store's lock could not be made: \(error)",
                remedy: "check that the state directory exists and can be written by root"
            )
        }
        do {
            try syscall("flock", path) { flock(descriptor.raw, LOCK_EX | LOCK_NB) }
        } catch {
            throw StoreError.unavailable(
                cause: error.code == EWOULDBLOCK
                    ? "another process has the store open (lock \(path))" : "the store could not be locked: \(error)",
                remedy: "stop the other daemon of this state directory"
            )
        }
        self.descriptor = descriptor
    }

    /// Gives the lock back.
    func release() {
        // Said explicitly: a child that is about to exec may hold a copy of the descriptor.
        if descriptor.raw >= 0 { flock(descriptor.raw, LOCK_UN) }
        descriptor.close()
    }
}
