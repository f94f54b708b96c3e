"""The stores. None knows another; `durably.store` says what each must do."""
