import Glibc
import Synchronization

/// Where the pages of one process come from: its backing file, and what is still on its way to it.
package final class PageSource: Sendable {
    let store: PageStore
    /// Pages to push first, most wanted first.
    let hot: [UInt64]
    /// Pages that come another way, in order.
    private let except: [Range<UInt64>]
    private let late: Mutex<Set<UInt64>>
    private let onWanted: @Sendable (UInt64) -> Void

    /// Pages of a store that holds a whole epoch, without those of `except`; those of `late` will arrive by
    /// ``arrived(_:)``.
    ///
    /// `onWanted` is called, on the server's thread, for a late page that the process waits for.
    package init(
        store: PageStore,
        hot: [UInt64] = [],
        except: [Range<UInt64>] = [],
        late: Set<UInt64> = [],
        onWanted: @escaping @Sendable (UInt64) -> Void = { _ in }
    ) {
        self.store = store
        self.hot = hot
        self.except = except
        self.late = Mutex(late)
        self.onWanted = onWanted
    }

    /// Says that late pages are in the store now; call ``PageServer/wake()`` afterwards.
    package func arrived(_ pages: some Sequence<UInt64>) {
        late.withLock { $0.subtract(pages) }
    }

    func isLate(_ page: UInt64) -> Bool { late.withLock { $0.contains(page) } }

    func want(_ page: UInt64) { onWanted(page) }

    /// Every page there is, or will be.
    var pages: [UInt64] {
        var held = store.pages(limit: Int(store.statistics.pages))
        if !except.isEmpty {
            var next = 0
            held.removeAll { page in
                while next < except.count, except[next].upperBound <= page { next += 1 }
                return next < except.count && except[next].contains(page)
            }
        }
        let coming = late.withLock { Array($0) }
        return coming.isEmpty ? held : Set(held).union(coming).sorted()
    }
}

/// Why a process's pages cannot be served; it waits, and must be ended or restored from an epoch.
package struct PageInError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The process as its own pid namespace numbers it.
    package let pid: pid_t
    /// The page number in the backing file.
    package let page: UInt64?
    package let cause: String

    /// The cause, with the process and the page.
    package var description: String {
        "process \(pid) cannot get page \(page.map { "0x" + String($0, radix: 16) } ?? "-"): \(cause)"
    }
}
