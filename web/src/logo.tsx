export function Logo() {
  return (
    <span class="logo">
      <svg width="24" height="24" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
        <rect width="32" height="32" rx="8" />
        <path d="M8 10h10M8 16h16M8 22h13" />
      </svg>
      Durably
    </span>
  );
}
