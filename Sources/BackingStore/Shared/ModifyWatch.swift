import CLinux
import Glibc
import Synchronization

/// Which objects of shared memory of this host were changed with write(2), fallocate(2) or ftruncate(2).
///
/// The times of an inode do not tell: a write through a mapping that is write-protected sets them too.
final class ModifyWatch: Sendable {
    /// The watch of this program's host.
    static let host = ModifyWatch()

    private struct State {
        let raw: Int32
        /// Counts looks.
        var position: UInt64 = 0
        /// The look that found an object's latest change.
        var changes: [Int32: UInt64] = [:]
        /// The last look that may have missed some.
        var lost: UInt64 = 0
    }

    private let state: Mutex<State>
    /// Changes are told of that a program makes through the descriptor which memfd_create(2) gave it.
    ///
    /// Since Linux 6.14 they are not: only objects that were opened by name have events (fsnotify).
    let hearsCreators: Bool

    private init() {
        let raw = smi_modify_watch_open()
        hearsCreators = raw >= 0 && smi_modify_watch_hears_creators(raw) == 1
        state = Mutex(State(raw: raw))
    }

    /// One object under watch, until this is let go.
    ///
    /// The object cannot go before.
    final class Mark: Sendable {
        fileprivate let number: Int32

        fileprivate init(number: Int32) {
            self.number = number
        }

        deinit {
            ModifyWatch.host.remove(number)
        }
    }

    /// Watches an open object; nil where the kernel does not let us.
    func mark(_ descriptor: Int32) -> Mark? {
        state.withLock { state in
            let number = smi_modify_watch_add(state.raw, descriptor)
            return number >= 0 ? Mark(number: number) : nil
        }
    }

    private func remove(_ number: Int32) {
        state.withLock { state in
            smi_modify_watch_remove(state.raw, number)
            state.changes[number] = nil
        }
    }

    /// Takes in what happened until now; the result is for ``isModified(_:since:)`` later.
    func look() -> UInt64 {
        state.withLock { state in
            state.position += 1
            var numbers = [Int32](repeating: 0, count: 1024)
            var count = 0
            repeat {
                count = smi_modify_watch_take(state.raw, &numbers, numbers.count)
                for number in numbers.prefix(max(0, count)) { state.changes[number] = state.position }
            } while count > numbers.count - 64
            if count < 0 { state.lost = state.position }
            return state.position
        }
    }

    /// Whether an object may have been changed since an earlier look and until the last one.
    func isModified(_ mark: Mark, since position: UInt64) -> Bool {
        state.withLock { $0.lost > position || $0.changes[mark.number, default: 0] > position }
    }
}
